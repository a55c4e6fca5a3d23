//! The memory map of a process in the format of `/proc/PID/maps` and `/proc/PID/smaps` (proc(5)).

use std::ops::Range;

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub addresses: Range<u64>,
    /// True if it is executable.
    pub is_code: bool,
    /// True if this process may write to it, or shares what is written.
    pub is_writable: bool,
    /// The file, or empty.
    pub path: String,
}

impl Mapping {
    /// Parses `7f8e06200000-7f8e06a00000 rw-p 00000000 08:01 1234    /usr/lib/libc.so.6`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let addresses = number(start)?..number(end)?;
        let permissions = fields.next()?;
        Some(Self {
            addresses,
            is_code: permissions.contains('x'),
            is_writable: permissions.contains(['w', 's']),
            path: fields.nth(3).unwrap_or_default().trim_start().to_owned(),
        })
    }
}

/// The addresses of private read-only mappings of files of which this process has pages in memory
/// and none that differs from the file, by the text of `smaps`. The kernel reads their pages again
/// if they are unmapped. Pages that differ are those of relocations and breakpoints.
pub fn clean_mappings(smaps: &str) -> Vec<Range<u64>> {
    let mut clean = Vec::new();
    let mut mapping: Option<Mapping> = None;
    let mut is_resident = false;
    // Both must be listed: a kernel that does not count these pages may have them.
    let mut own_pages = [None; 2];
    let end = std::iter::once("0-0 ---p 00000000 00:00 0");
    for line in smaps.lines().chain(end) {
        if let Some(next) = Mapping::parse(line) {
            if let Some(ended) = mapping.replace(next)
                && ended.path.starts_with('/')
                && !ended.is_writable
                && is_resident
                && own_pages == [Some(0); 2]
            {
                clean.push(ended.addresses);
            }
            (is_resident, own_pages) = (false, [None; 2]);
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let (name, size) = (words.next(), words.next());
        let size = size.and_then(|size| size.parse::<u64>().ok());
        match name {
            Some("Rss:") => is_resident = size.is_some_and(|size| size > 0),
            Some("Anonymous:") => own_pages[0] = size,
            Some("Swap:") => own_pages[1] = size,
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed_with_its_path() {
        let line = "7f00-8a00 r-xp 00000000 08:01 1234                      /a dir/libc.so.6";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.addresses, 0x7f00..0x8a00);
        assert_eq!((mapping.is_code, mapping.is_writable), (true, false));
        assert_eq!(mapping.path, "/a dir/libc.so.6");
        for other in ["", "Size:                  4 kB", "VmFlags: rd ex mr mw me"] {
            assert_eq!(Mapping::parse(other), None, "{other}");
        }
    }

    /// Fields in the order of the kernel's `fs/proc/task_mmu.c`, without those that do not matter.
    fn smaps(line: &str, rss: u64, own: &[(&str, u64)]) -> String {
        let own = own.iter();
        let own = own.map(|(name, size)| format!("{name}: {size:10} kB\n"));
        let own = own.collect::<String>();
        format!("{line}\nSize: 64 kB\nRss: {rss:12} kB\n{own}VmFlags: rd mr mw me \n")
    }

    #[test]
    fn only_resident_read_only_private_files_without_pages_of_their_own_are_clean() {
        let none = [("Anonymous", 0), ("Swap", 0)];
        let cases = [
            (
                "1000-2000 r-xp 00000000 08:01 7 /usr/lib/a.so",
                8,
                none,
                true,
            ),
            (
                "2000-3000 r--p 00000000 00:01 7 /memfd:host (deleted)",
                8,
                none,
                true,
            ),
            (
                "3000-4000 r-xp 00000000 08:01 7 /usr/lib/a.so",
                0,
                none,
                false,
            ),
            (
                "4000-5000 r--p 00000000 08:01 7 /usr/lib/a.so",
                8,
                [("Anonymous", 4), ("Swap", 0)],
                false,
            ),
            (
                "5000-6000 r--p 00000000 08:01 7 /usr/lib/a.so",
                8,
                [("Anonymous", 0), ("Swap", 4)],
                false,
            ),
            (
                "6000-7000 rw-p 00000000 08:01 7 /usr/lib/a.so",
                8,
                none,
                false,
            ),
            ("7000-8000 r--s 00000000 08:01 7 /dev/shm/x", 8, none, false),
            ("8000-9000 r-xp 00000000 00:00 0 [vdso]", 8, none, false),
            ("9000-a000 r--p 00000000 00:00 0 ", 8, none, false),
            (
                "a000-b000 r-xp 00000000 08:01 7 /usr/lib/last.so",
                8,
                none,
                true,
            ),
        ]; // fmt: skip
        let text: String = cases
            .iter()
            .map(|(line, rss, own, _)| smaps(line, *rss, own))
            .collect();
        let expected: Vec<_> = cases
            .iter()
            .filter(|(.., is_clean)| *is_clean)
            .map(|(line, ..)| Mapping::parse(line).unwrap().addresses)
            .collect();
        assert_eq!(clean_mappings(&text), expected);
    }

    #[test]
    fn a_mapping_whose_own_pages_are_not_counted_is_not_clean() {
        let line = "1000-2000 r-xp 00000000 08:01 7 /usr/lib/a.so";
        for counted in [&[][..], &[("Anonymous", 0)], &[("Swap", 0)]] {
            assert_eq!(clean_mappings(&smaps(line, 8, counted)), []);
        }
    }
}
