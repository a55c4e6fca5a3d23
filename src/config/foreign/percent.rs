//! Names in percent signs, `%(name)s`, as Python and its log formats have them.

/// The difference of lines with fields of requests from those of other servers.
pub const QUOTES: &str = "a quote in the user agent or the referer is \\x22";

/// Copies `text` to `out` up to the next `%(name)`; `%%` becomes a percent sign. Returns the name and the text
/// behind it, without a name for a percent sign before anything else; `None` at the end of the text.
pub fn up_to_name<'t>(text: &'t str, out: &mut String) -> Option<(Option<&'t str>, &'t str)> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if let Some(behind) = behind.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let inside = behind
            .strip_prefix('(')
            .and_then(|inside| inside.split_once(')'));
        return Some(match inside {
            Some((name, behind)) => (Some(name), behind),
            None => (None, behind),
        });
    }
    out.push_str(rest);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_copied_up_to_each_name() {
        let mut out = String::new();
        let found = up_to_name("50%% of %(x)s", &mut out);
        assert_eq!((found, &*out), (Some((Some("x"), "s")), "50% of "));
        assert_eq!(up_to_name("%d", &mut out), Some((None, "d")));
        assert_eq!(up_to_name("end", &mut out), None);
        assert_eq!(out, "50% of end");
    }
}
