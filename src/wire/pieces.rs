//! The body of a request on its way to a worker while it arrives from the client.
//!
//! ```text
//! | length u32 | so many bytes | … | 0 u32 |                  the whole body
//! | length u32 | so many bytes | … | 0xFFFFFFFF u32 | text    it broke off: why
//! ```
//!
//! The end of the stream without either is a front that has gone.

/// Behind the last piece.
pub const END: [u8; 4] = [0; 4];
/// The body does not come to its end; the text behind it, in UTF-8 and up to the end of the
/// stream, says why.
pub const BROKEN: [u8; 4] = [0xFF; 4];

/// The header of a piece with so many bytes: at least one, and fewer than `u32::MAX`.
pub fn head(length: usize) -> [u8; 4] {
    (length as u32).to_le_bytes()
}

/// The meaning of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A piece of so many bytes.
    Piece(u32),
    /// Nothing more.
    End,
    /// Why there is nothing more.
    Broken,
}

/// Reads a head.
pub fn read_head(head: [u8; 4]) -> Next {
    match head {
        END => Next::End,
        BROKEN => Next::Broken,
        length => Next::Piece(u32::from_le_bytes(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back_as_written() {
        assert_eq!(read_head(head(1)), Next::Piece(1));
        assert_eq!(read_head(head(70_000)), Next::Piece(70_000));
        assert_eq!(read_head(END), Next::End);
        assert_eq!(read_head(BROKEN), Next::Broken);
    }
}
