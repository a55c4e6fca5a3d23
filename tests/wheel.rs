//! The wheel, around the binary under test: installed, used and removed by `python/try_wheel.py`.

use std::path::Path;
use std::process::Command;

use crate::support::{python, skipped, source, temp_dir};

#[test]
fn an_installed_wheel_serves_with_its_environment_and_leaves_nothing_behind() {
    let dir = temp_dir();
    let made = Command::new(python::default())
        .arg(source("tests/wheel/around.py"))
        .arg(env!("CARGO_BIN_EXE_pyserve"))
        .arg(dir.path())
        .arg(env!("CARGO_PKG_VERSION"))
        .output()
        .expect("Python runs");
    let stderr = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{stderr}");
    let wheel = String::from_utf8_lossy(&made.stdout).trim().to_owned();

    // `python/try-wheel.sh` takes all of them; here are the usual one and the newest.
    let mut interpreters = vec![python::default()];
    interpreters.extend(python::supported().last().map(|newest| newest.path.clone()));
    interpreters.dedup();
    for interpreter in interpreters {
        tried(&interpreter, &wheel);
    }
}

fn tried(interpreter: &Path, wheel: &str) {
    let trial = Command::new(interpreter)
        .arg(source("python/try_wheel.py"))
        .arg(wheel)
        .output()
        .expect("Python runs");
    let stderr = String::from_utf8_lossy(&trial.stderr);
    match trial.status.code() {
        Some(0) => {}
        Some(3) => skipped("the wheel", stderr.trim()),
        _ => panic!("{stderr}{}", String::from_utf8_lossy(&trial.stdout)),
    }
}
