//! What rules are called. UUIDs were told apart by letter case, so that a reference in the other
//! case was to no rule and two rules had one id.

use detect::{RuleSet, Source};

const LOWER: &str = "5f3a3a6e-5b2f-4d3e-9d1c-0a1b2c3d4e5f";
const UPPER: &str = "5F3A3A6E-5B2F-4D3E-9D1C-0A1B2C3D4E5F";

fn load(files: &[(&str, &str)]) -> Result<RuleSet, Vec<String>> {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    let rules = RuleSet::compile(&sources)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let rejected = &rules.report().rejected;
    if rejected.is_empty() {
        Ok(rules)
    } else {
        Err(rejected.iter().map(ToString::to_string).collect())
    }
}

fn sql(id: &str) -> String {
    format!("id: {id}\ntitle: T\nlevel: low\nsql: SELECT process.pid FROM exec\n")
}

fn sigma(id: &str) -> String {
    format!(
        "title: T\nid: {id}\nlogsource: {{category: process_creation}}\ndetection:\n  sel:\n    \
         Image: /a\n  condition: sel\n"
    )
}

fn ids(rules: &RuleSet) -> Vec<&str> {
    rules.rules().iter().map(|rule| rule.id.as_str()).collect()
}

#[test]
fn uuids_are_written_in_lower_case_and_other_ids_as_they_are() {
    for rule in [sql, sigma] {
        let check = |id, expected| {
            let rules = load(&[("r.yml", &rule(id))]).unwrap();
            assert_eq!(ids(&rules), [expected]);
        };
        check(UPPER, LOWER);
        check(LOWER, LOWER);
        check("Proc-5F3A", "Proc-5F3A");
        let longer = format!("{UPPER}0");
        check(&longer, &longer);
    }
}

#[test]
fn two_rules_do_not_share_an_id_in_another_case() {
    let check = |files: &[(&str, &str)]| {
        let errors = load(files).err().unwrap();
        let expected = format!("rule id `{LOWER}` is already used at a.yml:");
        assert!(errors[0].contains(&expected), "{errors:?}");
    };
    check(&[("a.yml", &sql(LOWER)), ("b.yml", &sql(UPPER))]);
    check(&[("a.yml", &sql(UPPER)), ("b.yml", &sigma(LOWER))]);
    check(&[("a.yml", &sigma(LOWER)), ("b.yml", &sigma(UPPER))]);
    // Others are told apart by case, as before.
    assert!(load(&[("a.yml", &sql("x")), ("b.yml", &sql("X"))]).is_ok());
}

#[test]
fn references_find_their_rules_in_either_case() {
    for (own, other) in [(LOWER, UPPER), (UPPER, LOWER)] {
        let rule = sigma(own);
        let filter = format!(
            "title: F\nlogsource: {{category: process_creation}}\nfilter:\n  rules: [{other}]\n  \
             selection:\n    User: x\n  condition: not selection\n"
        );
        load(&[("r.yml", &rule), ("f.yml", &filter)]).unwrap();

        let correlation = format!(
            "title: C\nid: c\ncorrelation:\n  type: temporal\n  rules: [{other}]\n  group-by: [u]\n  \
             timespan: 1m\n  aliases: {{u: {{{other}: User}}}}\n  condition: {other}\n"
        );
        let rules = load(&[("r.yml", &rule), ("c.yml", &correlation)]).unwrap();
        assert_eq!(ids(&rules), ["c"]);
        let on_it = correlation.replace("id: c", &format!("id: {own}"));
        let outer = correlation.replace("User", "u");
        let rules = load(&[
            ("r.yml", &sigma("r").replace("id: r", "id: r\nname: n")),
            ("c.yml", &outer),
            ("d.yml", &on_it.replace(other, "n")),
        ]);
        assert_eq!(ids(&rules.unwrap()), ["c"]);

        let exception = format!("- rule: {other}\n  name: x\n  when: process.uid = 1\n");
        let rules = load(&[("r.yml", &rule), ("exceptions.yaml", &exception)]).unwrap();
        assert_eq!(rules.rules()[0].exceptions.len(), 1);

        let tests = format!("rule: {other}\nfires:\n  - {{Image: /a}}\n");
        let rules = load(&[("r.yml", &rule), ("r.tests.yml", &tests)]).unwrap();
        assert_eq!(rules.rules()[0].fires, 1);
    }
}

/// What names a rejected rule is rejected for that, whatever the case.
#[test]
fn a_rejected_rule_is_known_in_either_case() {
    let broken = sigma(LOWER).replace("Image", "Image|nosuch");
    let correlation = format!(
        "title: C\nid: c\ncorrelation:\n  type: temporal\n  rules: [{UPPER}]\n  timespan: 1m\n"
    );
    let errors = load(&[("r.yml", &broken), ("c.yml", &correlation)]).err();
    let errors = errors.unwrap();
    assert!(
        errors[1].contains("which is rejected (r.yml:"),
        "{errors:?}"
    );
}
