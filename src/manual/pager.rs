//! Text on standard output: on a terminal through `$PAGER` or `less`, otherwise directly.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::os::search_path;
use crate::os::standard::Standard;

/// Prints the text. A reader that closes its end early is not an error.
///
/// # Errors
/// The kernel's error for standard output.
pub fn show(text: &str) -> io::Result<()> {
    if Standard::Output.is_terminal() && page(text) {
        return Ok(());
    }
    match Standard::Output.write_patiently(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// True if a pager has shown the text. As in git, `PAGER` is a line for the shell, and an empty
/// one or `cat` means no pager.
fn page(text: &str) -> bool {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    if pager.trim().is_empty() || pager.trim() == "cat" {
        return false;
    }
    let mut command = Command::new("/bin/sh");
    // 127: the shell has not found the pager, and nothing has been shown.
    command.arg("-c").arg(&pager).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Quits if the text fits on one screen, keeps colours, leaves the text on the screen.
        command.env("LESS", "FRX");
    }
    let is_there = |name: &str| {
        let mut directories = search_path::ours().into_iter();
        directories.any(|dir| dir.join(name).is_file())
    };
    let program = pager.split_whitespace().next().unwrap_or_default();
    if !program.contains('/') && !program.contains('=') && !is_there(program) {
        return false;
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut input) = child.stdin.take() {
        // The user may quit before the end.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.code() != Some(127))
}
