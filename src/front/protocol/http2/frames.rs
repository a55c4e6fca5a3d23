//! Frame headers (RFC 9113 §4.1), and their positions in a stream of bytes.

/// Length of a frame header.
pub const HEAD: usize = 9;
/// SETTINGS_MAX_FRAME_SIZE (RFC 9113 §6.5.2): hyper announces no other.
pub const MOST: usize = 16_384;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY_FRAME: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub mod code {
    pub const PROTOCOL_ERROR: u8 = 1;
    pub const FLOW_CONTROL_ERROR: u8 = 3;
    pub const STREAM_CLOSED: u8 = 5;
    pub const FRAME_SIZE_ERROR: u8 = 6;
    pub const REFUSED_STREAM: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const COMPRESSION_ERROR: u8 = 9;
    pub const ENHANCE_YOUR_CALM: u8 = 11;
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of the payload.
    pub length: usize,
    /// The frame's type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Parses a header.
    pub fn read(bytes: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7FFF_FFFF,
        }
    }

    /// Encodes the header.
    pub fn bytes(&self) -> [u8; HEAD] {
        let [_, l0, l1, l2] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// True if a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Finds frame headers, the error codes of resets and the increments of windows.
#[derive(Debug, Default, Clone)]
pub struct Heads {
    /// The received part of a head, and of the number after it.
    bytes: [u8; HEAD + NUMBER],
    filled: usize,
    /// Number of missing bytes of the last payload.
    payload: usize,
}

/// Length of an error code, and of an increment.
const NUMBER: usize = 4;

impl Heads {
    /// True if the next byte begins a frame.
    pub fn is_between_frames(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }

    /// Calls `look` with each header that `bytes` complete; for RST_STREAM with its error code, for
    /// WINDOW_UPDATE with its increment.
    pub fn each(&mut self, bytes: &[u8], mut look: impl FnMut(FrameHeader, Option<u32>)) {
        self.each_at(bytes, |head, code, _end| look(head, code));
    }

    /// Like [`Heads::each`], with the position in `bytes` after the head, or after the error code.
    pub fn each_at(
        &mut self,
        mut bytes: &[u8],
        mut look: impl FnMut(FrameHeader, Option<u32>, usize),
    ) {
        let whole = bytes.len();
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let wanted = self.wanted();
            let length = (wanted - self.filled).min(bytes.len());
            let (now, rest) = bytes.split_at(length);
            self.bytes[self.filled..self.filled + length].copy_from_slice(now);
            self.filled += length;
            bytes = rest;
            if self.filled < wanted {
                return;
            }
            if self.wanted() > self.filled {
                continue;
            }
            let (head, number) = self.bytes.split_at(HEAD);
            let head = FrameHeader::read(head.try_into().expect("nine bytes"));
            let number = (self.filled > HEAD)
                .then(|| u32::from_be_bytes(number.try_into().expect("four bytes")));
            self.payload = head.length - (self.filled - HEAD);
            self.filled = 0;
            look(head, number, whole - bytes.len());
        }
    }

    /// Number of bytes to collect.
    fn wanted(&self) -> usize {
        let has_number =
            self.filled >= HEAD && matches!(self.bytes, [0, 0, 4, RST_STREAM | WINDOW_UPDATE, ..]);
        HEAD + if has_number { NUMBER } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_heads_are_the_same_however_the_bytes_are_split(
            payloads in prop::collection::vec((any::<u8>(), 0_usize..300), 0..20),
            numbers in prop::collection::vec((any::<bool>(), any::<u32>()), 0..5),
            cuts in prop::collection::vec(0_usize..4000, 0..20),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            let head = |kind, length| FrameHeader { length, kind, flags: 7, stream: 5 };
            for (kind, length) in payloads {
                if ![RST_STREAM, WINDOW_UPDATE].contains(&kind) {
                    bytes.extend(head(kind, length).bytes());
                    bytes.extend(vec![9; length]);
                    expected.push((head(kind, length), None));
                }
            }
            for (is_reset, number) in numbers {
                let kind = if is_reset { RST_STREAM } else { WINDOW_UPDATE };
                bytes.extend(head(kind, 4).bytes());
                bytes.extend(number.to_be_bytes());
                expected.push((head(kind, 4), Some(number)));
            }
            let mut found = Vec::new();
            let mut heads = Heads::default();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for part in cuts.windows(2) {
                heads.each(&bytes[part[0]..part[1]], |head, code| found.push((head, code)));
            }
            prop_assert_eq!(found, expected);
            prop_assert!(heads.is_between_frames());
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            Heads::default().each(&bytes, |_, _| {});
        }
    }
}
