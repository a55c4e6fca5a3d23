//! Payloads that are examined besides header blocks: lengths that RFC 9113 fixes, and values for
//! which h2 ends the connection with another error than RFC 9113 asks for.

use super::End;
use super::frames::{
    ACK, DATA, END_STREAM, FrameHeader, GOAWAY, MOST, PADDED, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use super::open::StreamState;

const INITIAL_WINDOW_SIZE: u16 = 4;
const MOST_WINDOW: u32 = (1 << 31) - 1;
const SETTING: usize = 6;

/// The treatment of a payload, unless it is held back with a header block.
#[derive(Debug, Default)]
pub enum Payload {
    /// It is passed on.
    #[default]
    Passes,
    /// It is passed on and examined.
    Settings(SettingsReader),
    /// h2 does not get the frame.
    LeftOut,
    /// The frame is held back until its increment is complete.
    WindowUpdate {
        /// The increment, as far as received.
        increment: [u8; 4],
        /// Number of its bytes received.
        filled: usize,
        /// The state of its stream.
        state: StreamState,
    },
}

/// Checks the length of a frame's payload.
///
/// # Errors
/// [`End::Size`] where a wrong length is an error of the connection: in all frames that change its
/// state (RFC 9113 §4.2).
pub fn check_length(head: FrameHeader) -> Result<(), End> {
    let length = head.length;
    let is_right = match head.kind {
        _ if length > MOST => false,
        DATA => length > 0 || !head.has(PADDED),
        RST_STREAM | WINDOW_UPDATE => length == 4,
        SETTINGS if head.has(ACK) => length == 0,
        SETTINGS => length.is_multiple_of(SETTING),
        PING => length == 8,
        GOAWAY => length >= 8,
        _ => true,
    };
    is_right.then_some(()).ok_or(End::Size)
}

/// Reads the settings of one frame, which may arrive in pieces.
#[derive(Debug, Default, Clone, Copy)]
pub struct SettingsReader {
    setting: [u8; SETTING],
    filled: usize,
}

impl SettingsReader {
    /// Reads more of the payload.
    ///
    /// # Errors
    /// A window that is too large (RFC 9113 §6.5.2).
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), End> {
        for byte in bytes {
            self.setting[self.filled] = *byte;
            self.filled += 1;
            if self.filled == SETTING {
                self.filled = 0;
                let [i0, i1, value @ ..] = self.setting;
                let is_window = u16::from_be_bytes([i0, i1]) == INITIAL_WINDOW_SIZE;
                if is_window && u32::from_be_bytes(value) > MOST_WINDOW {
                    return Err(End::Window);
                }
            }
        }
        Ok(())
    }
}

/// True for an empty DATA frame that ends nothing.
pub fn is_meaningless(head: FrameHeader) -> bool {
    head.length == 0 && !head.has(END_STREAM)
}

/// True for an increment of zero; the first bit is reserved (RFC 9113 §6.9).
pub fn is_zero(increment: [u8; 4]) -> bool {
    u32::from_be_bytes(increment) << 1 == 0
}
