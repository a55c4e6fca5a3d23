//! The response of one request: decides which bytes are sent, and when.
//!
//! Implements the rules about heads and lengths (PEP 3333, "Handling the Content-Length Header" and
//! "Buffering and Streaming"; RFC 9110 §6.4), independent of the source of the bytes. The front
//! chooses the framing on the wire.

use std::io;

use pyo3::prelude::*;
use pyserve_wire::frames::{FilePiece, ReplyKind};

use super::file_wrapper::RealFile;
use super::head::ResponseHead;
use crate::reply::{COPIED, ReplyWriter};
use crate::{log, uwsgi_module};

/// A response in progress.
pub struct Response {
    reply: ReplyWriter,
    /// True if the request was a HEAD.
    is_head_request: bool,
    head: Option<ResponseHead>,
    is_head_out: bool,
    sent: u64,
    /// True if the end frame is queued; nothing may follow.
    is_complete: bool,
    was_cut: bool,
}

/// The decision whether to ask the application for more of the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Continue.
    More,
    /// Stop: there is no body, or it is complete and more was cut.
    Enough,
}

/// The reason why the body cannot continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// The client has disconnected; the request ends without an error.
    ClientGone,
    /// The channel is broken: the front has exited, and this thread may end too.
    FrontGone,
    /// There is a body, but `start_response` was not called.
    NoHead,
}

impl From<io::Error> for BodyEnd {
    fn from(_: io::Error) -> Self {
        Self::FrontGone
    }
}

impl Response {
    /// Creates the response of the request that `reply` was begun with.
    pub fn new(reply: ReplyWriter, is_head_request: bool) -> Self {
        Self {
            reply,
            is_head_request,
            head: None,
            is_head_out: false,
            sent: 0,
            is_complete: false,
            was_cut: false,
        }
    }

    /// Returns the reply writer for the next request.
    pub fn into_reply(self) -> ReplyWriter {
        self.reply
    }

    /// Number of the request.
    pub fn seq(&self) -> u64 {
        self.reply.seq()
    }

    /// True if `start_response` was called.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// True if status and headers cannot be changed any more.
    pub fn is_head_out(&self) -> bool {
        self.is_head_out
    }

    /// True if the body exceeded `Content-Length`.
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// True if the end frame is queued.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// True if the client has disconnected.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_cancelled()
    }

    /// Sets, or replaces, status and headers.
    pub fn set_head(&mut self, head: ResponseHead) {
        self.head = Some(head);
    }

    /// Sends a whole body: a list or tuple of known size. The length is added if the application
    /// set none. Small ones stay pending until the next flush.
    ///
    /// # Errors
    /// [`BodyEnd`] if nothing can be sent any more.
    pub fn whole(&mut self, py: Python<'_>, pieces: &[&[u8]]) -> Result<(), BodyEnd> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let Some(head) = &mut self.head else {
            return Err(BodyEnd::NoHead);
        };
        let has_no_body = head.is_bodiless() || self.is_head_request;
        // The length for a HEAD is that of the GET, which is unknown if the application omitted the
        // body.
        let is_known = !head.is_bodiless() && (total > 0 || !self.is_head_request);
        if head.length.is_none() && !self.is_head_out && is_known {
            head.add_length(total as u64);
        }
        let fits = head.length.is_none_or(|length| length == total as u64) && self.sent == 0;
        if has_no_body || (fits && total <= COPIED) {
            self.push_head();
            if !has_no_body {
                for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                    self.reply.push_body(piece);
                }
                self.sent += total as u64;
            }
            self.end();
            return Ok(());
        }
        // Too short, and nothing is sent: `finish` reports it, and the client gets a clean 500.
        if !self.is_head_out && head.length.is_some_and(|length| length > total as u64) {
            return Ok(());
        }
        for piece in pieces {
            if self.piece(py, piece)? == Flow::Enough {
                break;
            }
        }
        Ok(())
    }

    /// Sends one piece of the body before it returns.
    ///
    /// # Errors
    /// [`BodyEnd`] if nothing can be sent any more.
    pub fn piece(&mut self, py: Python<'_>, piece: &[u8]) -> Result<Flow, BodyEnd> {
        let Some(head) = &self.head else {
            return Err(BodyEnd::NoHead);
        };
        // PEP 3333: an empty piece does not fix the headers.
        if piece.is_empty() {
            return Ok(Flow::More);
        }
        if head.is_bodiless() || self.is_head_request {
            self.push_head();
            return Ok(Flow::Enough);
        }
        let room = head.length.map(|length| length - self.sent);
        let (piece, is_over) = match room {
            Some(room) if (piece.len() as u64) > room => (&piece[..room as usize], true),
            _ => (piece, false),
        };
        if is_over && !self.was_cut {
            self.was_cut = true;
            log::warn(
                py,
                self.seq(),
                "the application sent more than its Content-Length; the rest was cut",
            );
        }
        if piece.is_empty() && self.is_complete {
            return Ok(Flow::Enough);
        }
        if self.reply.is_cancelled() {
            return Err(BodyEnd::ClientGone);
        }
        let is_last = room == Some(piece.len() as u64);
        self.push_head();
        self.sent += piece.len() as u64;
        self.is_complete = is_last;
        let reply = &mut self.reply;
        py.detach(|| reply.send_body(piece, is_last))?;
        Ok(if is_over { Flow::Enough } else { Flow::More })
    }

    /// Adds the length of a HEAD's body to its response, as for the GET.
    pub fn announce_length(&mut self, length: u64) {
        if let Some(head) = &mut self.head
            && self.is_head_request
            && head.length.is_none()
            && !head.is_bodiless()
            && !self.is_head_out
        {
            head.add_length(length);
        }
    }

    /// True if the body may still be handed over as a file: nothing is sent, and the head is short
    /// enough to go with the descriptor in one write.
    pub fn takes_file(&self) -> bool {
        let is_short = |head: &ResponseHead| head.payload().len() < COPIED / 2;
        !self.is_head_out && self.head.as_ref().is_some_and(is_short)
    }

    /// Sends a file on disk as the body: its descriptor goes to the front, which sends it without
    /// this thread. `finish` finds a difference to the application's `Content-Length`. For a HEAD
    /// the front needs the file too: its validators and conditions are those of the GET.
    ///
    /// # Errors
    /// [`BodyEnd`] if nothing can be sent any more.
    pub fn file(&mut self, py: Python<'_>, file: RealFile) -> Result<(), BodyEnd> {
        let Some(head) = &mut self.head else {
            return Err(BodyEnd::NoHead);
        };
        if head.length.is_none() && !head.is_bodiless() {
            head.add_length(file.left);
        }
        let room = head.length.unwrap_or(file.left);
        if head.is_bodiless() || room > file.left {
            return Ok(());
        }
        self.push_head();
        self.sent += room;
        self.is_complete = true;
        let piece = FilePiece {
            offset: file.position,
            length: room,
        };
        let reply = &mut self.reply;
        Ok(py.detach(|| reply.send_file(file.fd, piece))?)
    }

    /// Ends the body. `Err` describes a violation by the application; the response is then
    /// truncated. Nothing is flushed.
    ///
    /// # Errors
    /// A sentence for the log.
    pub fn finish(&mut self) -> Result<(), String> {
        if self.is_complete {
            return Ok(());
        }
        let Some(head) = &self.head else {
            return Err("the application returned without calling start_response()".to_owned());
        };
        let has_no_body = head.is_bodiless() || self.is_head_request;
        match head.length {
            Some(length) if length != self.sent && !has_no_body => Err(format!(
                "the application sent {} of the {length} bytes of its Content-Length",
                self.sent
            )),
            _ => {
                self.push_head();
                self.end();
                Ok(())
            }
        }
    }

    /// Truncates the response. Nothing is flushed. `page` is for `--dev`.
    pub fn abort(&mut self, page: &str) {
        if !self.is_complete {
            self.is_complete = true;
            self.reply.push(ReplyKind::Abort, page.as_bytes());
        }
    }

    /// Sends the pending frames.
    ///
    /// # Errors
    /// [`BodyEnd::FrontGone`].
    pub fn flush(&mut self, py: Python<'_>) -> Result<(), BodyEnd> {
        let reply = &mut self.reply;
        Ok(py.detach(|| reply.flush())?)
    }

    fn push_head(&mut self) {
        if self.is_head_out {
            return;
        }
        if let Some(head) = &mut self.head {
            uwsgi_module::each_log_var(|name, value| head.add_log_var(name, value));
            self.reply.push(ReplyKind::Head, head.payload());
            self.is_head_out = true;
        }
    }

    fn end(&mut self) {
        self.is_complete = true;
        self.reply.push(ReplyKind::End, &[]);
    }
}
