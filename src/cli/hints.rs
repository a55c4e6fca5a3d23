//! Hints in usage errors, for people who come from other servers.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::foreign::counterpart;
use crate::config::suggest;

/// True for `hello.wsgi` and `site/app.py`, which are no misspelt verbs.
fn is_file_name(word: &str) -> bool {
    word.contains(['.', '/', ':'])
}

/// Adds a hint for common guesses: `pyserve hello.wsgi`, `runserver`, `-w 4`.
pub(super) fn with_hint(mut error: clap::Error) -> clap::Error {
    let stray = match error.kind() {
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand),
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg),
        _ => None,
    };
    let Some(ContextValue::String(stray)) = stray else {
        return error;
    };
    let hint = if let Some(option) = stray.strip_prefix('-') {
        let name = option.trim_start_matches('-');
        let name = name.split('=').next().unwrap_or(name);
        match counterpart(name) {
            Some(ours) => ours.to_owned(),
            None => return error,
        }
    } else if suggest::begins_with_dash(stray) {
        let name = stray.trim_start_matches(suggest::is_dash);
        format!("an option begins with two hyphens, as in '--{name}'")
    } else if error.get(ContextKind::SuggestedSubcommand).is_some() && !is_file_name(stray) {
        return error;
    } else if ["run", "start", "runserver"].contains(&&**stray) {
        "the server starts without a verb, or with 'serve'".to_owned()
    } else if is_address(stray) {
        format!("an address is given as '--bind {stray}'")
    } else {
        format!("an application is given as '--app {stray}'")
    };
    for nearest in [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ] {
        error.remove(nearest);
    }
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![StyledStr::from(hint)]),
    );
    error
}

/// `8000`, `:8000`, `0.0.0.0:8000`, as Django's `runserver` and others take it.
fn is_address(text: &str) -> bool {
    let port = text.rsplit(':').next().unwrap_or(text);
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}
