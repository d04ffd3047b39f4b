//! Events per second with Sigma rules, beside `rsigma-eval`, in one run: `cargo xtask bench detect`.
//!
//! Prints one JSON document on standard output; the command makes tables of it.
#![expect(clippy::print_stdout, reason = "a program that is run for its output")]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use detect::sigma::sysmon;
use detect::{Matcher, RuleSet, Source};
use event::wire::RecordingReader;
use event::{Argv, Event, EventKind};
use rsigma_eval::event::EventValue;
use rsigma_parser::{SigmaCollection, parse_sigma_yaml};
use serde_json::{Value, json};

/// Least processor time of one measurement, so that the clock's grain does not show.
const LEAST_NS: u64 = 200_000_000;

fn main() {
    let options = Options::read();
    if let Some(engine) = &options.memory {
        println!("{}", memory(&options, engine));
        return;
    }
    let rules = RuleFile::read_all(&options.rules);
    let mut corpus = Corpus::read(&options.events);
    corpus.find_quiet(&spread(&rules, 0));
    let sets: Vec<Value> = options
        .counts
        .iter()
        .map(|count| measure(&options, &corpus, &spread(&rules, *count)))
        .collect();
    let document = json!({
        "events": corpus.events.len(),
        "quiet_events": corpus.quiet.len(),
        "rule_files": rules.len(),
        "sets": sets,
    });
    println!("{document}");
}

/// `--rules DIR --events FILE --counts 1,10,100,0 --rounds N [--memory ours|rsigma]`; a count of 0
/// stands for all rules. `cargo bench` adds `--bench`.
struct Options {
    rules: PathBuf,
    events: PathBuf,
    counts: Vec<usize>,
    rounds: u32,
    memory: Option<String>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            rules: PathBuf::new(),
            events: PathBuf::new(),
            counts: vec![1, 10, 100, 0],
            rounds: 5,
            memory: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--bench" {
                continue;
            }
            let value = arguments.next().expect("every option has a value");
            match name.as_str() {
                "--rules" => options.rules = value.into(),
                "--events" => options.events = value.into(),
                "--counts" => {
                    let counts = value.split(',').map(|n| n.parse().expect("a number"));
                    options.counts = counts.collect();
                }
                "--rounds" => options.rounds = value.parse().expect("a number"),
                "--memory" => options.memory = Some(value),
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }
}

struct RuleFile {
    name: String,
    text: String,
}

impl RuleFile {
    /// In the order of their names.
    fn read_all(dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(dir).expect("--rules is a directory of rules");
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("readable").path())
            .collect();
        paths.sort();
        paths
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "yml" || e == "yaml"))
            .map(|path| Self {
                name: path.display().to_string(),
                text: fs::read_to_string(path).expect("rules are UTF-8"),
            })
            .collect()
    }
}

/// So many of the rules, taken at equal distances; 0 for all.
fn spread(rules: &[RuleFile], count: usize) -> Vec<&RuleFile> {
    let count = if count == 0 {
        rules.len()
    } else {
        count.min(rules.len())
    };
    (0..count)
        .map(|index| &rules[index * rules.len() / count])
        .collect()
}

fn ours(rules: &[&RuleFile]) -> RuleSet {
    let sources: Vec<Source<'_>> = rules
        .iter()
        .map(|rule| Source {
            file: &rule.name,
            text: &rule.text,
        })
        .collect();
    RuleSet::compile(&sources).expect("no SQL rule is among them")
}

fn theirs(rules: &[&RuleFile]) -> rsigma_eval::Engine {
    let mut all = SigmaCollection::default();
    for rule in rules {
        let parsed = parse_sigma_yaml(&rule.text).expect("the rule parses");
        all.rules.extend(parsed.rules);
    }
    let mut engine = rsigma_eval::Engine::new();
    engine.add_collection(&all).expect("the rules compile");
    engine
}

/// The same events for both.
struct Corpus {
    events: Vec<Event>,
    /// Those that no rule matches, which is nearly all that a host does.
    quiet: Vec<Event>,
    flat: Vec<Flat>,
}

impl Corpus {
    fn read(path: &Path) -> Self {
        let events = if path.extension().is_some_and(|e| e == "ndjson") {
            sysmon_events(path)
        } else {
            recorded_execs(path)
        };
        let (events, flat) = events.into_iter().unzip();
        Self {
            events,
            quiet: Vec::new(),
            flat,
        }
    }

    fn find_quiet(&mut self, rules: &[&RuleFile]) {
        let mut matcher = Matcher::without_cache(Arc::new(ours(rules)));
        let mut findings = Vec::new();
        let mut is_quiet = |event: &&Event| {
            matcher.on_event(event, 0, &mut findings);
            findings.drain(..).count() == 0
        };
        self.quiet = self.events.iter().filter(&mut is_quiet).cloned().collect();
    }
}

/// Lines with the fields of a Sysmon event under `event`.
fn sysmon_events(path: &Path) -> Vec<(Event, Flat)> {
    let text = fs::read_to_string(path).expect("--events can be read");
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("a line is a JSON document");
        let fields = &line["event"];
        let event = sysmon::from_value(fields).expect("the event is one of Sysmon's");
        (event, Flat::of_json(fields))
    });
    lines.collect()
}

/// What `daemoneye record` wrote.
fn recorded_execs(path: &Path) -> Vec<(Event, Flat)> {
    let file = fs::File::open(path).expect("--events can be read");
    let mut reader = RecordingReader::new(BufReader::new(file)).expect("--events is a recording");
    let mut execs = Vec::new();
    while let Some(event) = reader.next().expect("the recording is whole") {
        if let EventKind::Exec(exec) = &event.kind {
            let flat = Flat::of_process(&exec.process);
            execs.push((event, flat));
        }
    }
    execs
}

/// The fields as `rsigma-eval` likes them best: few, found by name, borrowed.
struct Flat(Vec<(String, String)>);

impl Flat {
    fn of_json(fields: &Value) -> Self {
        let fields = fields.as_object().expect("an event has fields");
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        Self(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
        )
    }

    fn of_process(process: &event::Process) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = |argv: &Argv| text(&argv.joined());
        let mut fields = vec![
            ("Image", text(&process.exe)),
            ("CommandLine", line(&process.argv)),
        ];
        if let Some(cwd) = &process.cwd {
            fields.push(("CurrentDirectory", text(cwd)));
        }
        if process.credentials.is_some_and(|ids| ids.uid == 0) {
            fields.push(("User", "root".to_owned()));
        }
        if let Some(parent) = &process.parent_process {
            fields.push(("ParentImage", text(&parent.exe)));
            fields.push(("ParentCommandLine", line(&parent.argv)));
        }
        let known = fields.into_iter().filter(|(_, value)| !value.is_empty());
        Self(
            known
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }
}

impl rsigma_eval::event::Event for Flat {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        let (_, value) = self.0.iter().find(|(name, _)| name == path)?;
        Some(EventValue::Str(Cow::Borrowed(value)))
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.0.iter().any(|(_, value)| pred(value))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        self.0
            .iter()
            .map(|(_, value)| Cow::Borrowed(value.as_str()))
            .collect()
    }

    fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect()
    }
}

/// Both with these rules: what they find, and what it costs, round by round.
fn measure(options: &Options, corpus: &Corpus, rules: &[&RuleFile]) -> Value {
    let start = Instant::now();
    let set = Arc::new(ours(rules));
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let engine = theirs(rules);
    let their_compile_ms = start.elapsed().as_secs_f64() * 1e3;

    let mut plain = Matcher::without_cache(Arc::clone(&set));
    let mut cached = Matcher::new(Arc::clone(&set));
    let our_findings = our_findings(&mut plain, corpus);
    let their_findings = their_findings(&engine, corpus);
    let only = |a: &BTreeSet<Found>, b: &BTreeSet<Found>| {
        let of = a.difference(b).take(20);
        of.map(|(event, rule)| json!([event, rule]))
            .collect::<Vec<_>>()
    };
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let ours = our_ns_per_event(&mut plain, &corpus.events);
        let theirs = their_ns_per_event(&engine, corpus);
        let cached = our_ns_per_event(&mut cached, &corpus.events);
        let quiet = our_ns_per_event(&mut plain, &corpus.quiet);
        rounds.push(json!({
            "ours_ns": ours,
            "rsigma_ns": theirs,
            "cached_ns": cached,
            "quiet_ns": quiet,
        }));
    }
    let (hits, misses) = cached.cache_hits_and_misses();
    json!({
        "rules": set.rules().len(),
        "findings": our_findings.len(),
        "only_ours": only(&our_findings, &their_findings),
        "only_rsigma": only(&their_findings, &our_findings),
        "compile_ms": compile_ms,
        "rsigma_compile_ms": their_compile_ms,
        "cache_hits": hits,
        "cache_misses": misses,
        "rounds": rounds,
    })
}

/// Position of an event, id of a rule.
type Found = (usize, String);

fn our_findings(matcher: &mut Matcher, corpus: &Corpus) -> BTreeSet<Found> {
    let mut found = BTreeSet::new();
    let mut findings = Vec::new();
    for (index, event) in corpus.events.iter().enumerate() {
        matcher.on_event(event, 0, &mut findings);
        found.extend(
            findings
                .drain(..)
                .map(|finding| (index, finding.rule_id.to_string())),
        );
    }
    found
}

fn their_findings(engine: &rsigma_eval::Engine, corpus: &Corpus) -> BTreeSet<Found> {
    let mut found = BTreeSet::new();
    for (index, event) in corpus.flat.iter().enumerate() {
        for result in engine.evaluate(event) {
            found.insert((index, result.header.rule_id.unwrap_or_default()));
        }
    }
    found
}

fn our_ns_per_event(matcher: &mut Matcher, events: &[Event]) -> f64 {
    let mut findings = Vec::new();
    ns_per_event(events.len(), || {
        for event in events {
            matcher.on_event(event, 0, &mut findings);
            findings.clear();
        }
    })
}

fn their_ns_per_event(engine: &rsigma_eval::Engine, corpus: &Corpus) -> f64 {
    ns_per_event(corpus.flat.len(), || {
        for event in &corpus.flat {
            std::hint::black_box(engine.evaluate(event));
        }
    })
}

/// Processor time of this thread, over as many passes as make it worth measuring.
fn ns_per_event(events: usize, mut pass: impl FnMut()) -> f64 {
    pass();
    let start = processor_ns();
    let mut passes = 0;
    while processor_ns() - start < LEAST_NS {
        pass();
        passes += 1;
    }
    (processor_ns() - start) as f64 / (passes * events) as f64
}

/// Processor time of this thread so far.
fn processor_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstats");
    let first = text.split(' ').next().and_then(|ns| ns.parse().ok());
    first.expect("the first number is the time in ns")
}

/// What is resident more once the rules are compiled and a pass was made; in a process that does
/// nothing else.
fn memory(options: &Options, engine: &str) -> Value {
    let files = RuleFile::read_all(&options.rules);
    let rules = spread(&files, 0);
    let corpus = Corpus::read(&options.events);
    let before = resident_bytes();
    let grown = || resident_bytes().saturating_sub(before);
    if engine == "ours" {
        let mut matcher = Matcher::without_cache(Arc::new(ours(&rules)));
        our_findings(&mut matcher, &corpus);
        json!({ "bytes": grown(), "rules": matcher.rules().rules().len() })
    } else {
        let engine = theirs(&rules);
        their_findings(&engine, &corpus);
        json!({ "bytes": grown(), "rules": engine.rule_count() })
    }
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("VmRSS in kB")
        * 1024
}
