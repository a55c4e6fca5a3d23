//! Suggests the known name that is closest to an unknown one, and knows dashes that stand for hyphens.

/// The candidate closest to `word`, if one is close enough to be a slip of the fingers.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let letters = letters(&word);
    candidates
        .into_iter()
        // A third of the letters: `wrokers`, `workres_`, `keep_alive_timeout` are found,
        // words that only share a few letters are not.
        .map(|candidate| (candidate.chars().count().max(3) / 3, candidate))
        // Much faster than the distance, of which it is a lower bound.
        .filter(|(most, candidate)| missing_letters(letters, candidate) <= *most)
        .map(|(most, candidate)| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            (distance, most, candidate)
        })
        .filter(|(distance, most, _)| distance <= most)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// The number of times that each letter occurs; other characters share their places.
fn letters(word: &str) -> [i16; 32] {
    let mut counts = [0; 32];
    for char in word.chars() {
        counts[char as usize & 31] += 1;
    }
    counts
}

/// The number of letters that the candidate has too many or too few, whichever is larger.
fn missing_letters(mut counts: [i16; 32], candidate: &str) -> usize {
    for char in candidate.chars() {
        counts[char as usize & 31] -= 1;
    }
    let (mut more, mut fewer) = (0, 0);
    for count in counts {
        match count > 0 {
            true => more += count,
            false => fewer -= count,
        }
    }
    usize::try_from(more.max(fewer)).unwrap_or(usize::MAX)
}

/// True for a hyphen, and for the dashes and the minus sign that a word processor puts in its place.
pub fn is_dash(letter: char) -> bool {
    matches!(letter, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// True for a word that begins with a dash of a word processor, as in `–ini=uwsgi.ini`.
pub fn begins_with_dash(word: &str) -> bool {
    let is_typeset = |letter: char| is_dash(letter) && letter != '-';
    let mut dashes = word.chars().take_while(|letter| is_dash(*letter));
    dashes.any(is_typeset)
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
