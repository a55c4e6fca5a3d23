//! HPACK (RFC 7541): header blocks decoded to fields, and fields written as literals.
//!
//! It decodes a connection's blocks in parallel to h2, so it accepts no more than h2 does: the
//! table of the default size, and integers of five bytes. The size of the decoded fields is
//! bounded: beyond the limit the table is kept up to date, and fields are counted but not kept.

pub mod huffman;
pub mod table;

use self::table::{OVERHEAD, Table};

/// A block that cannot be decoded. It ends the connection: RFC 9113 §4.3, COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The block ends inside a field.
    #[error("a header block ends inside a field")]
    Ends,
    /// An integer is longer than five bytes.
    #[error("a header block contains an integer that is too long")]
    Integer,
    /// A string is not valid Huffman code.
    #[error("a header block contains a malformed Huffman code")]
    Huffman,
    /// An index is in neither table.
    #[error("a header block refers to an entry that the tables do not have")]
    Index,
    /// The size of the table is changed after the first field, or beyond the setting.
    #[error("a header block changes the size of the dynamic table in a forbidden way")]
    Resize,
    /// Its decoded size is many times the limit.
    #[error("a header block decodes to more than sixteen times the size announced")]
    Bomb,
}

/// Decoding of a block stops at this multiple of its limit: a byte may stand for a field of 4 KiB.
/// h2 stops at four times; clients of a proxy share a connection, so that one with many cookies
/// should cost no more than its stream.
const BOMB: usize = 16;

/// The fields of one block, in order.
#[derive(Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    /// Ends of each name and value in `bytes`.
    ends: Vec<(u32, u32)>,
    /// Size as counted for SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2), including fields that
    /// are not kept.
    pub size: usize,
    /// The size from which on fields are not kept.
    limit: usize,
    /// The largest of the fields that are not kept, and the length of its value.
    biggest: Option<(Box<[u8]>, usize)>,
}

impl Fields {
    /// Forgets the fields, and keeps those of the next block up to `limit`.
    pub fn clear(&mut self, limit: usize) {
        self.bytes.clear();
        self.ends.clear();
        self.size = 0;
        self.limit = limit;
        self.biggest = None;
    }

    /// Frees the memory of an unusually large block.
    pub fn shrink(&mut self, bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes);
        self.ends.clear();
        self.ends.shrink_to(bytes / OVERHEAD);
    }

    /// True if some fields were not kept.
    pub fn is_too_large(&self) -> bool {
        self.size >= self.limit
    }

    /// Name and value of each field that is kept.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, value)| *value as usize));
        begins.zip(&self.ends).map(|(begin, (name, value))| {
            let name = *name as usize;
            (&self.bytes[begin..name], &self.bytes[name..*value as usize])
        })
    }

    /// Name of the largest field, and length of its value.
    pub fn biggest(&self) -> (&[u8], usize) {
        let kept = self.iter().map(|(name, value)| (name, value.len()));
        let others = self.biggest.iter().map(|(name, value)| (&**name, *value));
        let biggest = kept
            .chain(others)
            .max_by_key(|(name, value)| name.len() + value);
        biggest.unwrap_or_default()
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size = self
            .size
            .saturating_add(name.len() + value.len() + OVERHEAD);
        if !self.is_too_large() {
            self.bytes.extend_from_slice(name);
            let name = self.bytes.len() as u32;
            self.bytes.extend_from_slice(value);
            self.ends.push((name, self.bytes.len() as u32));
            return;
        }
        let before = self
            .biggest
            .as_ref()
            .map_or(0, |(name, value)| name.len() + value);
        if name.len() + value.len() > before {
            self.biggest = Some((name.into(), value.len()));
        }
    }
}

/// Decodes the blocks of one connection, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    /// Strings of the field that is being decoded.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// Adds the fields of a whole block to `fields`.
    ///
    /// # Errors
    /// If the block cannot be decoded. No later block can be decoded then.
    pub fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), Undecodable> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(first) = rest.first() {
            // RFC 7541 §6, from the most significant bit on.
            match first.leading_zeros() {
                0 => {
                    let index = integer(&mut rest, 7)?;
                    let (name, value) = self.table.entry(index).ok_or(Undecodable::Index)?;
                    fields.push(name, value);
                    if fields.size / BOMB > fields.limit {
                        return Err(Undecodable::Bomb);
                    }
                }
                1 => self.literal(&mut rest, 6, true, fields)?,
                2 if !may_resize => return Err(Undecodable::Resize),
                2 => {
                    let size = integer(&mut rest, 5)?;
                    self.table.resize(size).map_err(|()| Undecodable::Resize)?;
                    continue;
                }
                _ => self.literal(&mut rest, 4, false, fields)?,
            }
            may_resize = false;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        is_indexed: bool,
        fields: &mut Fields,
    ) -> Result<(), Undecodable> {
        self.name.clear();
        self.value.clear();
        match integer(rest, prefix)? {
            0 => string(rest, &mut self.name)?,
            index => {
                let (name, _) = self.table.entry(index).ok_or(Undecodable::Index)?;
                self.name.extend_from_slice(name);
            }
        }
        string(rest, &mut self.value)?;
        fields.push(&self.name, &self.value);
        if is_indexed {
            self.table.insert(&self.name, &self.value);
        }
        for scratch in [&mut self.name, &mut self.value] {
            if scratch.capacity() > SCRATCH {
                scratch.clear();
                scratch.shrink_to(SCRATCH);
            }
        }
        Ok(())
    }
}

/// Capacity that a connection keeps for the strings of its next field.
const SCRATCH: usize = 512;

/// RFC 7541 §5.1. Five bytes are what h2 takes.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Undecodable> {
    let mask = (1_usize << prefix) - 1;
    let mut number = usize::from(next(rest)?) & mask;
    if number < mask {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(next(rest)?);
        number += (byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Undecodable::Integer)
}

fn next(rest: &mut &[u8]) -> Result<u8, Undecodable> {
    let (first, behind) = rest.split_first().ok_or(Undecodable::Ends)?;
    *rest = behind;
    Ok(*first)
}

/// RFC 7541 §5.2.
fn string(rest: &mut &[u8], into: &mut Vec<u8>) -> Result<(), Undecodable> {
    let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Undecodable::Ends)?;
    *rest = behind;
    if is_huffman {
        return huffman::decode(bytes, into).map_err(|_| Undecodable::Huffman);
    }
    into.extend_from_slice(bytes);
    Ok(())
}

/// Appends a field as a literal without indexing (RFC 7541 §6.2.2), which refers to no table.
pub fn write_literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for string in [name, value] {
        write_length(block, string.len());
        block.extend_from_slice(string);
    }
}

fn write_length(block: &mut Vec<u8>, length: usize) {
    if length < 0x7F {
        block.push(length as u8);
        return;
    }
    block.push(0x7F);
    let mut rest = length - 0x7F;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests;
