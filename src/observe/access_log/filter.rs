//! The choice of requests that have a line in the access log.

use super::pattern::Pattern;

/// The choice of requests that have a line, and the form of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLogLines {
    /// Requests that have a line.
    pub filter: AccessLogFilter,
    /// The pattern of lines, in the place of the usual format.
    pub pattern: Option<Pattern>,
}

/// The choice of requests that have a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLogFilter {
    /// Ranges of statuses; `None` for all.
    statuses: Option<Vec<(u16, u16)>>,
    /// Paths without a line; those that end in `*` stand for all that begin so, those that begin with
    /// it for all that end so, in any case, and those that have it inside for all that do both.
    skipped: Vec<String>,
}

impl AccessLogFilter {
    /// A filter of these.
    pub fn new(statuses: Option<Vec<(u16, u16)>>, skipped: Vec<String>) -> Self {
        Self { statuses, skipped }
    }

    /// True if a request for `target` with the response `status` has a line.
    pub fn is_logged(&self, target: &[u8], status: u16) -> bool {
        let is_wanted = |ranges: &Vec<(u16, u16)>| {
            ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&status))
        };
        self.statuses.as_ref().is_none_or(is_wanted) && !self.is_skipped(target)
    }

    fn is_skipped(&self, target: &[u8]) -> bool {
        if self.skipped.is_empty() {
            return false;
        }
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let path = &target[..end.unwrap_or(target.len())];
        self.skipped.iter().any(|skipped| {
            match (skipped.strip_suffix('*'), skipped.strip_prefix('*')) {
                (Some(start), _) => path.starts_with(start.as_bytes()),
                (None, Some(end)) => ends_with(path, end.as_bytes()),
                (None, None) => match skipped.split_once('*') {
                    Some((start, end)) => path
                        .strip_prefix(start.as_bytes())
                        .is_some_and(|rest| ends_with(rest, end.as_bytes())),
                    None => path == skipped.as_bytes(),
                },
            }
        })
    }
}

/// True if the path ends so, in upper or lower case.
fn ends_with(path: &[u8], end: &[u8]) -> bool {
    let from = path.len().checked_sub(end.len());
    from.is_some_and(|from| path[from..].eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_paths_choose_the_requests_with_a_line() {
        let all = AccessLogFilter::default();
        assert!(all.is_logged(b"/a", 200));
        let skipped = ["/health", "/probe/*", "*.css", "/w/*.js"]
            .map(str::to_owned)
            .to_vec();
        let errors = AccessLogFilter::new(Some(vec![(400, 499), (502, 502)]), skipped);
        for (target, status, expected) in [
            ("/a", 200, false),
            ("/a", 404, true),
            ("/a", 500, false),
            ("/a", 502, true),
            ("/health", 404, false),
            ("/health?x=1", 404, false),
            ("/health/", 404, true),
            ("/probe/x", 404, false),
            ("/a/b.CSS?v=1", 404, false),
            ("/a.css/b", 404, true),
            ("/a?x=.css", 404, true),
            ("css", 404, true),
            ("/w/a/b.JS", 404, false),
            ("/w/.js", 404, false),
            ("/w.js", 404, true),
            ("/a/b.js", 404, true),
        ] {
            let logged = errors.is_logged(target.as_bytes(), status);
            assert_eq!(logged, expected, "{target} {status}");
        }
    }
}
