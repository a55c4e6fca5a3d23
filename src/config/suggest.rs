//! Suggests the known name that is closest to an unknown one.

/// The candidate closest to `word`, if one is close enough to be a slip of the fingers.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            (distance, candidate)
        })
        // A third of the letters: `wrokers`, `workres_`, `keep_alive_timeout` are found,
        // words that only share a few letters are not.
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let check = |word: &str, expected: Option<&str>| {
            let names = ["workers", "threads", "keepalive_timeout", "bind"];
            assert_eq!(closest(word, names), expected, "{word}");
        };
        check("wrokers", Some("workers"));
        check("worker", Some("workers"));
        check("keep-alive-timeout", Some("keepalive_timeout"));
        check("Bind", Some("bind"));
        check("processes", None);
        check("", None);
    }
}
