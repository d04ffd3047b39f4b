//! Regular expressions on bytes.
//!
//! The engine of the `regex` crate, but for its full DFAs, which any other dependency can switch on
//! for the whole program. Where one skips to the next byte that leaves a state, it reads the byte
//! that led there twice, so that `(?i-u)ab.*b` matches `abx` (`meta/stopat.rs` of regex-automata
//! 0.4.9 to 0.4.18). The lazy DFA, which then takes its place, does not skip.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex_automata::util::syntax;
use regex_automata::{Input, meta};

/// Memory that all expressions keep between searches, in bytes: what most need is a hundredth of a
/// megabyte for each, but texts can be chosen so that one fills its cache.
const MAX_KEPT: usize = 64 << 20;

/// So much of each is kept in any case: those whose texts never come again may hold all the rest.
const ALWAYS_KEPT: usize = 128 << 10;

/// Of [`MAX_KEPT`], what is taken.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A compiled regular expression, its text, and how that was read.
#[derive(Clone)]
pub(crate) struct Regex {
    text: Box<str>,
    reading: Reading,
    engine: meta::Regex,
    kept: Slot,
}

/// What the last search left behind for the next one.
#[derive(Default)]
struct Slot(Mutex<Option<Cache>>);

/// What a search writes to.
struct Cache {
    cache: Box<meta::Cache>,
    /// Of it, what [`KEPT`] counts.
    counted: usize,
}

/// What tells expressions apart; the engine would print all its states.
impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} as {:?}", self.text, self.reading)
    }
}

/// How a text is read, and what may come of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// On characters, or on bytes.
    pub(crate) unicode: bool,
    /// `.` is also a line's end.
    pub(crate) dot_is_all: bool,
    /// Groups in groups.
    pub(crate) max_depth: u32,
    /// Of the automaton, and again of the states that are cached.
    pub(crate) max_bytes: usize,
}

/// Why a text is no regular expression.
#[derive(Debug)]
pub(crate) enum Refusal {
    TooLarge,
    /// What is wrong with it.
    Syntax(String),
}

impl Regex {
    pub(crate) fn new(text: &str, reading: Reading) -> Result<Self, Refusal> {
        let syntax = syntax::Config::new()
            .utf8(false)
            .unicode(reading.unicode)
            .dot_matches_new_line(reading.dot_is_all)
            .nest_limit(reading.max_depth);
        let limits = meta::Config::new()
            .utf8_empty(false)
            .nfa_size_limit(Some(reading.max_bytes))
            .hybrid_cache_capacity(reading.max_bytes)
            .dfa(false);
        let engine = meta::Builder::new()
            .syntax(syntax)
            .configure(limits)
            .build(text)
            .map_err(|error| Refusal::of(&error))?;
        Ok(Self {
            text: text.into(),
            reading,
            engine,
            kept: Slot::default(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        let input = Input::new(text).earliest(true);
        let search = |cache: &mut meta::Cache| self.engine.search_half_with(cache, &input);
        let Ok(mut kept) = self.kept.0.try_lock() else {
            // Another thread searches.
            return search(&mut self.engine.create_cache()).is_some();
        };
        let cache = kept.get_or_insert_with(|| Cache::new(&self.engine));
        let found = search(&mut cache.cache);
        if cache.count() > MAX_KEPT && cache.counted > ALWAYS_KEPT {
            *kept = None;
        }
        found.is_some()
    }
}

/// Each is searched with by itself.
impl Clone for Slot {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Cache {
    fn new(engine: &meta::Regex) -> Self {
        Self {
            cache: Box::new(engine.create_cache()),
            counted: 0,
        }
    }

    /// What all take with this one.
    fn count(&mut self) -> usize {
        let bytes = self.cache.memory_usage() + size_of::<meta::Cache>();
        if bytes != self.counted {
            KEPT.fetch_add(bytes, Ordering::Relaxed);
            KEPT.fetch_sub(self.counted, Ordering::Relaxed);
            self.counted = bytes;
        }
        KEPT.load(Ordering::Relaxed)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl Refusal {
    /// The library draws a caret under the text; its last line says what is wrong.
    fn of(error: &meta::BuildError) -> Self {
        let Some(syntax) = error.syntax_error() else {
            return Self::TooLarge;
        };
        let drawn = syntax.to_string();
        let last = drawn.lines().last().unwrap_or_default();
        Self::Syntax(last.strip_prefix("error: ").unwrap_or(last).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_automata::nfa::thompson::{self, pikevm::PikeVM};

    use super::{KEPT, MAX_KEPT, Ordering, Reading, Refusal, Regex, syntax};

    const READING: Reading = Reading {
        unicode: true,
        dot_is_all: false,
        max_depth: 50,
        max_bytes: 1 << 16,
    };

    /// It is where the feature `full-dfa` is on, as in the tests of the workspace.
    #[test]
    fn a_byte_is_not_read_twice() {
        for text in ["(?i-u)ab.*b", "(?-u).[ab].*ba*"] {
            let expression = Regex::new(text, READING).unwrap();
            assert!(!expression.is_match(b"abx"), "{text}");
        }
    }

    /// Leaves of conditions that print the same are evaluated once for all of them.
    #[test]
    fn what_is_read_otherwise_prints_otherwise() {
        let printed = |reading| format!("{:?}", Regex::new("a.b", reading).unwrap());
        let dot_is_all = Reading {
            dot_is_all: true,
            ..READING
        };
        assert_ne!(printed(READING), printed(dot_is_all));
        assert!(printed(READING).len() < 150, "{}", printed(READING));
    }

    /// Each kept up to two caches of its limit, for good.
    #[test]
    fn what_is_kept_between_searches_is_bounded_over_all_expressions() {
        let large = Reading {
            max_bytes: 4 << 20,
            ..READING
        };
        let regex = Regex::new(r"\w{20}\s\w{20}", large).unwrap();
        let many = vec![regex; 80];
        let text = format!("{} {}", "a".repeat(20), "b".repeat(20));
        assert!(many.iter().all(|regex| regex.is_match(text.as_bytes())));
        // Other tests search at the same time.
        let most = MAX_KEPT + (1 << 20);
        assert!(KEPT.load(Ordering::Relaxed) <= most);
        let kept = |regex: &&Regex| regex.kept.0.lock().unwrap().is_some();
        let count = many.iter().filter(kept).count();
        assert!((1..80).contains(&count), "{count}");
        // What has no room is searched for all the same.
        assert!(many.iter().all(|regex| regex.is_match(text.as_bytes())));
        drop(many);
        assert!(KEPT.load(Ordering::Relaxed) < MAX_KEPT / 2);
    }

    #[test]
    fn refusals_say_why() {
        let refusal = |text| Regex::new(text, READING).unwrap_err();
        assert!(matches!(refusal(r"\w{500}"), Refusal::TooLarge));
        let Refusal::Syntax(reason) = refusal("a(b") else {
            panic!("an open group is no matter of size");
        };
        assert_eq!(reason, "unclosed group");
    }

    fn expression() -> impl Strategy<Value = String> {
        let flags = prop::sample::select(vec!["", "(?i)", "(?-u)", "(?i-u)", "(?s)"]);
        let unit = prop::sample::select(vec!["a", "b", "ab", ".", ".*", "[ab]", r"\b", "^", "$"]);
        let run = prop::collection::vec(unit, 1..5).prop_map(|units| units.concat());
        let many = prop::sample::select(vec!["", "*", "+", "?", "{2}"]);
        let group = (run.clone(), run.clone(), many);
        let group = group.prop_map(|(a, b, many)| format!("(?:{a}|{b}){many}"));
        let parts = prop::collection::vec(prop_oneof![2 => run, 1 => group], 1..4);
        (flags, parts).prop_map(|(flags, parts)| format!("{flags}{}", parts.concat()))
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"abABx\n\xff".to_vec()), 0..10)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// The simplest engine, which has nothing but the automaton.
        #[test]
        fn the_engines_agree(
            expression in expression(),
            texts in prop::collection::vec(text(), 1..8),
        ) {
            let quick = Regex::new(&expression, READING);
            prop_assume!(quick.is_ok());
            let simple = PikeVM::builder()
                .syntax(syntax::Config::new().utf8(false))
                .thompson(thompson::Config::new().utf8(false))
                .build(&expression)
                .unwrap();
            let mut cache = simple.create_cache();
            for text in texts {
                let expected = simple.is_match(&mut cache, &text);
                prop_assert_eq!(quick.as_ref().unwrap().is_match(&text), expected, "{:?}", text);
            }
        }
    }
}
