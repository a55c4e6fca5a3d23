//! A short run of what is fuzzed (`tests/fuzz/`): the cases in its corpus, and some thousand
//! inputs made of them, always the same ones.
//!
//! `FUZZ_SECONDS=180 cargo test --test main fuzz::replies` goes on with others for so long, where
//! there is no libFuzzer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::support::source;

mod targets;

/// Inputs for each target beside its corpus.
const MADE: u64 = 4000;
/// Longest input: what is checked at every cut takes the square of it.
const LONGEST: usize = 600;

#[test]
fn chunked_bodies_hold_what_they_must_for_any_bytes() {
    check("chunks");
}

#[test]
fn what_proxies_say_holds_what_it_must_for_any_bytes() {
    check("forwarded");
}

#[test]
fn frames_of_http2_hold_what_they_must_for_any_bytes() {
    check("http2");
}

#[test]
fn proxy_headers_hold_what_they_must_for_any_bytes() {
    check("proxy_protocol");
}

#[test]
fn heads_of_responses_hold_what_they_must_for_any_bytes() {
    check("reply_head");
}

#[test]
fn requests_of_the_fast_path_are_read_as_hyper_reads_them() {
    check("fast_path");
}

#[test]
fn heads_of_requests_hold_what_they_must_for_any_bytes() {
    check("request_head");
}

#[test]
fn paths_of_files_hold_what_they_must_for_any_bytes() {
    check("static_path");
}

#[test]
fn files_of_uwsgi_are_read_to_an_end_for_any_bytes() {
    check("uwsgi_options");
}

#[test]
fn files_of_nginx_are_read_to_an_end_for_any_bytes() {
    check("nginx_site");
}

#[test]
fn replies_of_workers_hold_what_they_must_for_any_bytes() {
    check("worker_reply");
}

#[test]
fn queue_and_replies_hold_what_they_must_for_any_words() {
    check("shared_rings");
}

#[test]
fn the_scoreboard_holds_what_it_must_for_any_words() {
    check("scoreboard");
}

#[test]
fn requests_end_where_hyper_ends_them_for_any_bytes() {
    check("framing");
}

#[test]
fn every_target_is_run_here_and_by_the_fuzzer() {
    let manifest = std::fs::read_to_string(source("tests/fuzz/Cargo.toml")).unwrap();
    let this = std::fs::read_to_string(source("tests/fuzz.rs")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(this.contains(&format!("check(\"{name}\")")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets::TARGETS.len());
}

fn check(name: &str) {
    let target = targets::named(name);
    let corpus = corpus(name);
    assert!(corpus.len() > 5, "a corpus for {name}");
    let run = |input: &[u8], from: &str| {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            panic!("{name}, {from}: b\"{}\"", input.escape_ascii());
        }
    };
    for (case, input) in &corpus {
        run(input, case);
    }
    let inputs: Vec<&[u8]> = corpus.iter().map(|(_, input)| &input[..]).collect();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let seconds = std::env::var("FUZZ_SECONDS").map(|seconds| seconds.parse().expect("a number"));
    let most = seconds.map_or(Duration::ZERO, Duration::from_secs);
    let began = Instant::now();
    let mut count = 0;
    while count < MADE || began.elapsed() < most {
        run(&made_of(&inputs, &mut dice), &format!("input {count}"));
        count += 1;
    }
    println!("{name}: {count} inputs");
}

/// Names and contents, in the same order on every machine.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = source("tests/fuzz/corpus").join(name);
    let files = std::fs::read_dir(folder).expect("a folder of the target's name");
    let mut cases: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let case = path.file_name().unwrap().to_string_lossy().into_owned();
            (case, std::fs::read(path).unwrap())
        })
        .collect();
    cases.sort();
    cases
}

/// xorshift64: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    /// Where something is to happen, and to how many bytes.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + 1 + self.below(8)).min(length).max(start)
    }
}

/// A case with a few changes of the kinds that fuzzers make.
fn made_of(corpus: &[&[u8]], dice: &mut Dice) -> Vec<u8> {
    const TELLING: [&[u8]; 20] = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"\x0b",
        b"\x0c",
        b"\x7f",
        b"\xa0",
        b"\xff",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"\"",
        b"\\",
        b"=",
        b"0",
        b"+",
    ];
    let mut input = corpus[dice.below(corpus.len())].to_vec();
    for _ in 0..=dice.below(4) {
        let range = dice.range(input.len());
        let other = corpus[dice.below(corpus.len())];
        match dice.below(6) {
            0 => input[range].fill(dice.below(256) as u8),
            1 => drop(input.drain(range)),
            2 => drop(input.splice(range, TELLING[dice.below(TELLING.len())].iter().copied())),
            3 => {
                let at = range.start;
                drop(input.splice(at..at, TELLING[dice.below(TELLING.len())].iter().copied()));
            }
            4 => {
                let twice = input[range.clone()].to_vec();
                drop(input.splice(range.start..range.start, twice));
            }
            _ => {
                input.truncate(range.start);
                input.extend(&other[dice.range(other.len()).start..]);
            }
        }
    }
    input.truncate(LONGEST);
    input
}
