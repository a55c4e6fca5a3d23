//! The indexing tables of HPACK (RFC 7541 §2.3): the static one, and the dynamic one of one
//! connection, bounded by its size in bytes.

use std::collections::VecDeque;

/// Size of an entry in addition to its bytes (RFC 7541 §4.1).
pub const OVERHEAD: usize = 32;
/// SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2): hyper announces no other.
pub const MOST: usize = 4096;

/// Both tables, with one index space.
#[derive(Debug)]
pub struct Table {
    /// The newest one first.
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    /// The name, followed by the value.
    bytes: Box<[u8]>,
    name: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: MOST,
        }
    }
}

impl Table {
    /// Name and value of an index; `None` if there is none.
    pub fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - STATIC.len())?;
        Some(entry.bytes.split_at(entry.name))
    }

    /// Adds an entry and evicts old ones; one that is larger than the table empties it (RFC 7541
    /// §4.4).
    pub fn insert(&mut self, name: &[u8], value: &[u8]) {
        let entry = name.len() + value.len() + OVERHEAD;
        if entry > self.limit {
            self.evict(0);
            return;
        }
        self.evict(self.limit - entry);
        self.size += entry;
        self.entries.push_front(Entry {
            bytes: [name, value].concat().into(),
            name: name.len(),
        });
    }

    /// Applies a size update of the encoder (RFC 7541 §6.3).
    ///
    /// # Errors
    /// If it is beyond the setting.
    pub fn resize(&mut self, limit: usize) -> Result<(), ()> {
        if limit > MOST {
            return Err(());
        }
        self.limit = limit;
        self.evict(limit);
        Ok(())
    }

    fn evict(&mut self, until: usize) {
        while self.size > until {
            let Some(entry) = self.entries.pop_back() else {
                return;
            };
            self.size -= entry.size();
        }
    }
}

/// RFC 7541, appendix A.
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
