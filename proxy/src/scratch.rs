//! Where bytes are read to before it is known how many come.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Read with one call at most, bytes.
pub const PIECE: usize = 16 * 1024;

thread_local! {
    /// One for all connections of a thread, none of which keeps anything there.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
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
