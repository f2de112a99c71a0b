//! The engine's multiplexed streams: frames of standard output and standard error on one connection.
//!
//! The crate's decoder panics on an unknown stream number, allocates whatever length a frame claims and takes a cut frame
//! for the end; this one skips, bounds and reports. Pure.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::domain::status::Stream;

/// Length of a frame's head: stream, three unused bytes, length.
const HEAD: usize = 8;
/// The engine cuts lines into pieces of 8 KiB; nothing sane is longer than this.
const MAX_FRAME: usize = 1 << 20;

/// A frame that cannot be one; the stream cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log stream is damaged: a frame of {0} bytes")]
pub(super) struct Damaged(usize);

/// Takes frames out of what has arrived so far.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived. Frames of unknown streams are skipped.
    pub(super) fn next(&mut self) -> Result<Option<(Stream, Bytes)>, Damaged> {
        loop {
            if self.buffer.len() < HEAD {
                return Ok(None);
            }
            let length = (&self.buffer[4..HEAD]).get_u32() as usize;
            if length > MAX_FRAME {
                return Err(Damaged(length));
            }
            if self.buffer.len() < HEAD + length {
                return Ok(None);
            }
            let stream = self.buffer[0];
            self.buffer.advance(HEAD);
            let data = self.buffer.split_to(length).freeze();
            match stream {
                1 => return Ok(Some((Stream::Stdout, data))),
                2 => return Ok(Some((Stream::Stderr, data))),
                _ => {}
            }
        }
    }
}

/// The text of all whole frames, both streams.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    let mut text = String::new();
    while let Ok(Some((_, data))) = decoder.next() {
        text.push_str(&String::from_utf8_lossy(&data));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_told_apart_however_they_arrive() {
        let whole = [frame(1, "out\n"), frame(9, "odd"), frame(2, "err\n"), frame(1, "")].concat();
        for size in 1..whole.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in whole.chunks(size) {
                decoder.feed(piece);
                while let Some((stream, data)) = decoder.next().unwrap() {
                    seen.push((stream, String::from_utf8(data.to_vec()).unwrap()));
                }
            }
            let expected =
                [(Stream::Stdout, "out\n".to_owned()), (Stream::Stderr, "err\n".to_owned()), (Stream::Stdout, String::new())];
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let mut decoder = Decoder::default();
        decoder.feed(&[1, 0, 0, 0, 255, 255, 255, 255, 1]);
        assert_eq!(decoder.next(), Err(Damaged(0xffff_ffff)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = text(&bytes);
        }
    }
}
