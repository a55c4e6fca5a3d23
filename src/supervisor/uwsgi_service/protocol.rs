//! The messages of the service: one operation, one answer, each a packet of its own.
//!
//! ```text
//! | operation u8 | 0 | name length u16 | key length u16 | 0 u16 | number i64 | seconds u64 | name | key | value |
//! | 0: no, 1: yes, 2: error u8 | payload |
//! ```
//!
//! Numbers are little-endian. The other end is `python/pyserve/uwsgi_module.py`; a damaged worker may
//! send anything.

/// Bytes before the name.
const HEADER: usize = 24;
/// Longest key (uWSGI: `keysize`).
pub const LONGEST_KEY: usize = 2048;
/// Longest value (uWSGI: `blocksize`, 64 KiB unless it is set). A packet has to fit into the buffer of a
/// socket, 208 KiB on most systems.
pub const LONGEST_VALUE: usize = 128 << 10;
/// Longest name of a cache.
const LONGEST_NAME: usize = 255;
/// Longest message.
pub const LONGEST: usize = HEADER + LONGEST_NAME + LONGEST_KEY + LONGEST_VALUE;

/// The operation of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The value of a key.
    Get,
    /// Sets a key that does not exist.
    Set,
    /// Sets a key.
    Update,
    /// Removes a key.
    Delete,
    /// Looks for a key.
    Exists,
    /// Changes a number.
    Math(Math),
    /// The number of a key.
    Number,
    /// Removes all keys of a cache.
    Clear,
    /// The keys behind this one.
    Keys,
    /// Takes a lock, when it is free.
    Lock,
    /// Gives a lock back.
    Unlock,
    /// Looks at a lock.
    IsLocked,
    /// Reloads the server.
    Reload,
    /// Stops the server.
    Stop,
}

/// The change of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A message of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    pub operation: Operation,
    /// Number of a lock, or the other number of a calculation.
    pub number: i64,
    /// Seconds until the value expires; 0 for never.
    pub seconds: u64,
    /// The cache.
    pub name: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a message; `None` for anything malformed.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let short = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (name, rest) = rest.split_at_checked(short(2))?;
        let (key, value) = rest.split_at_checked(short(4))?;
        let fits =
            name.len() <= LONGEST_NAME && key.len() <= LONGEST_KEY && value.len() <= LONGEST_VALUE;
        if !fits {
            return None;
        }
        let long = |at: usize| <[u8; 8]>::try_from(&header[at..at + 8]).ok();
        Some(Self {
            operation: operation(header[0])?,
            number: i64::from_le_bytes(long(8)?),
            seconds: u64::from_le_bytes(long(16)?),
            name,
            key,
            value,
        })
    }
}

fn operation(code: u8) -> Option<Operation> {
    Some(match code {
        1 => Operation::Get,
        2 => Operation::Set,
        3 => Operation::Update,
        4 => Operation::Delete,
        5 => Operation::Exists,
        6 => Operation::Math(Math::Add),
        7 => Operation::Math(Math::Subtract),
        8 => Operation::Math(Math::Multiply),
        9 => Operation::Math(Math::Divide),
        10 => Operation::Number,
        11 => Operation::Clear,
        12 => Operation::Keys,
        20 => Operation::Lock,
        21 => Operation::Unlock,
        22 => Operation::IsLocked,
        30 => Operation::Reload,
        31 => Operation::Stop,
        _ => return None,
    })
}

/// The answer to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is none, or it was not done: `None` in Python.
    No,
    /// It was done, or the value.
    Yes(Vec<u8>),
    /// An exception, with this text.
    Error(&'static str),
}

impl Answer {
    /// The message as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (code, payload) = match self {
            Self::No => (0, &b""[..]),
            Self::Yes(payload) => (1, &payload[..]),
            Self::Error(text) => (2, text.as_bytes()),
        };
        let mut bytes = Vec::with_capacity(payload.len() + 1);
        bytes.push(code);
        bytes.extend_from_slice(payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_has_its_parts_in_order() {
        let mut bytes = vec![3, 0, 2, 0, 1, 0, 0, 0];
        bytes.extend_from_slice(&(-5i64).to_le_bytes());
        bytes.extend_from_slice(&9u64.to_le_bytes());
        bytes.extend_from_slice(b"nmkvalue");
        let expected = Request {
            operation: Operation::Update,
            number: -5,
            seconds: 9,
            name: b"nm",
            key: b"k",
            value: b"value",
        };
        assert_eq!(Request::read(&bytes), Some(expected));
        for cut in 0..HEADER + 3 {
            assert_eq!(Request::read(&bytes[..cut]), None, "{cut}");
        }
        bytes[0] = 99;
        assert_eq!(Request::read(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Request::read(&bytes);
        }
    }
}
