//! Tables of `benches/compare.py`: `benches/report.py` gets results as it writes them, and prints Markdown.

use std::process::Command;

use crate::support::{python, source, temp_dir};

/// The Markdown for results whose only work is hello, with these figures in microseconds of each round.
fn report(servers: &[(&str, &[f64], &str)], other_cpu: f64) -> String {
    let servers: serde_json::Map<_, _> = servers
        .iter()
        .map(|(name, rounds, invalid)| {
            let runs: Vec<_> = rounds
                .iter()
                .map(|cpu| serde_json::json!({"cpu_us": cpu, "requests_per_s": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0}))
                .collect();
            let server = serde_json::json!({"invalid": invalid, "errors": 0, "requests": 10, "runs": runs});
            ((*name).to_owned(), server)
        })
        .collect();
    let results = serde_json::json!({
        "machine": "2 CPUs", "interpreter": "Python 3.11", "versions": {"pyserve": "1.0"},
        "options": {"short": false, "rounds": 3, "seconds": 1, "server_cpus": [0, 1], "load_cpus": [0, 1]},
        "interpreters": {},
        "works": {"hello": {
            "metric": "cpu_us", "connections": 32, "rate": 5000, "other_cpu": other_cpu, "goals": ["≤ 11 µs", "≤ Granian × 0.55"], "servers": servers,
        }},
    });
    let dir = temp_dir();
    let file = dir.path().join("results.json");
    std::fs::write(&file, results.to_string()).unwrap();
    let run = Command::new(python::default())
        .arg(source("benches/report.py"))
        .arg(&file)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    String::from_utf8(run.stdout).unwrap()
}

/// The row of hello in the summary.
fn row(report: &str) -> Vec<&str> {
    let line = report.lines().find(|line| line.starts_with("| hello |"));
    line.expect("a row").split('|').map(str::trim).collect()
}

#[test]
fn a_comparison_shows_medians_ranges_ratios_and_goals() {
    let slow = report(
        &[
            ("pyserve", &[13.0, 10.0, 12.0], ""),
            ("Granian", &[20.0, 30.0, 10.0], ""),
        ],
        0.0,
    );
    let cells = row(&slow);
    assert_eq!(cells[4..8], ["12.0", "10.0–13.0", "no", "0.60"], "{slow}");
    let fast = report(
        &[
            ("pyserve", &[10.0, 11.0, 14.0], ""),
            ("Granian", &[20.0, 20.0, 20.0], ""),
        ],
        0.0,
    );
    let cells = row(&fast);
    assert_eq!(cells[4..8], ["11.0", "10.0–14.0", "yes", "0.55"], "{fast}");
    assert!(!fast.contains("Noisy"), "{fast}");
}

#[test]
fn a_comparison_has_no_figures_of_runs_with_errors() {
    let shown = report(
        &[
            ("pyserve", &[10.0, 10.0], ""),
            ("Granian", &[77.0, 77.0], "3 of 10 requests failed"),
        ],
        0.0,
    );
    let cells = row(&shown);
    // The goal that Granian's figure decides is open.
    assert_eq!(cells[4..8], ["10.0", "10.0–10.0", "–", "–"], "{shown}");
    assert!(!shown.contains("77.0"), "{shown}");
    let why = "hello: Granian: 3 of 10 requests failed";
    assert!(shown.contains(why), "{shown}");
}

#[test]
fn a_comparison_beside_other_load_judges_no_goal() {
    let servers: [(_, &[f64], _); 2] = [("pyserve", &[10.0], ""), ("Granian", &[20.0], "")];
    let shown = report(&servers, 0.4);
    assert_eq!(row(&shown)[6], "noisy", "{shown}");
    let warned = shown.contains("**Noisy**") && shown.contains("40%");
    assert!(warned, "{shown}");
}
