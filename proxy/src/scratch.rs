//! Where bytes are read to before it is known how many come, and where they are put together before they are written.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Read with one call at most, bytes.
pub const PIECE: usize = 16 * 1024;

/// Room that short pieces share, bytes: what one of them keeps in memory at most.
pub const SHARED: usize = 8 * 1024;

thread_local! {
    /// One for all connections of a thread, none of which keeps anything there.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());

    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    static PIECES: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// One read, of which `take` is given what came: nothing at the end of the stream.
///
/// # Errors
/// The stream's.
pub fn poll_read<S: AsyncRead + Unpin, T>(
    stream: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(take(read.filled())))
    })
}

/// What `written` puts together, of which `sent` is given the whole.
pub fn text<T>(written: impl FnOnce(&mut Vec<u8>), sent: impl FnOnce(&[u8]) -> T) -> T {
    TEXT.with_borrow_mut(|text| {
        text.clear();
        text.shrink_to(PIECE); // a long one was rare
        written(text);
        sent(text)
    })
}

/// The same bytes, to be kept. Short ones share their room with others of this thread: that is for what is soon let go,
/// as the head of a message, and not for what waits in queues.
pub fn kept(bytes: &[u8]) -> Bytes {
    if bytes.len() > SHARED / 4 {
        return Bytes::copy_from_slice(bytes);
    }
    PIECES.with_borrow_mut(|pieces| {
        if pieces.capacity() < bytes.len() {
            pieces.reserve(SHARED); // the same room again where nobody has anything there
        }
        pieces.extend_from_slice(bytes);
        pieces.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_as_it_was_while_more_is_kept_and_let_go() {
        let mut held = Vec::new();
        for round in 0..20_000_usize {
            let bytes = vec![(round % 251) as u8; round * 7919 % (SHARED / 3)];
            held.push((kept(&bytes), bytes));
            if held.len() > round % 13 {
                let (kept, bytes) = held.swap_remove(round % held.len());
                assert_eq!(kept, bytes);
            }
        }
        assert!(held.iter().all(|(kept, bytes)| kept == bytes));
    }

    #[test]
    fn short_pieces_use_the_same_room_again_and_long_ones_have_their_own() {
        let first = kept(&[1; 100]).as_ptr() as usize;
        for _ in 0..1000 {
            let next = kept(&[2; 100]).as_ptr() as usize;
            assert!((first..first + SHARED).contains(&next));
        }
        let long = kept(&[3; SHARED]).as_ptr() as usize;
        assert!(!(first..first + SHARED).contains(&long));
    }

    #[test]
    fn a_long_text_leaves_no_long_room_behind() {
        text(|text| text.extend([b'a'; 10 * PIECE]), |sent| assert_eq!(sent, [b'a'; 10 * PIECE]));
        text(|text| text.extend(b"short"), |sent| assert_eq!(sent, b"short"));
        TEXT.with_borrow(|text| assert!(text.capacity() <= PIECE, "{}", text.capacity()));
    }
}
