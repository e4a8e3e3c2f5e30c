//! Memory for files in the making: pieces of one size, used again and again.
//!
//! A file of 100 MB is written into fresh memory once a second while a backlog is worked off. Asking the system for that
//! memory each time costs more than filling it: every page of it faults, and is zeroed first. So pieces come from a pool,
//! and go back to it when the last byte of them is stored. They begin at a page's border, so that a store on local disk can
//! write them past the page cache.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a piece.
pub const PIECE: usize = 1 << 20;
/// Where a piece begins, and of what its writes past the page cache are multiples: bytes.
pub const ALIGNMENT: usize = 4096;
/// Pieces that the pool keeps, at most.
const KEPT_MAX: usize = 160;
/// After so many pieces taken the pool is looked at: what was never needed meanwhile is given back, half at a time.
const LOOK: usize = 64;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), least: 0, taken: 0 });

struct Pool {
    free: Vec<Vec<u8>>,
    /// The fewest that were free since the last look.
    least: usize,
    taken: usize,
}

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A piece's memory: back in the pool when it is dropped.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
}

impl Memory {
    fn take() -> Self {
        let (bytes, surplus) = pool().take();
        // Given back to the system while nobody waits for the pool.
        drop(surplus);
        let bytes = bytes.unwrap_or_else(|| vec![0; PIECE + ALIGNMENT]);
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start }
    }
}

impl Pool {
    fn take(&mut self) -> (Option<Vec<u8>>, Vec<Vec<u8>>) {
        let bytes = self.free.pop();
        self.least = self.least.min(self.free.len());
        self.taken += 1;
        if self.taken < LOOK {
            return (bytes, Vec::new());
        }
        let surplus = self.free.drain(..self.least.div_ceil(2)).collect();
        (self.taken, self.least) = (0, self.free.len());
        (bytes, surplus)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut pool = pool();
        if pool.free.len() < KEPT_MAX {
            pool.free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A piece that is being filled.
struct Piece {
    memory: Memory,
    len: usize,
}

impl Piece {
    /// Takes as much of `bytes` as there is room for, and returns how much.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let take = bytes.len().min(PIECE - self.len);
        let at = self.memory.start + self.len;
        self.memory.bytes[at..at + take].copy_from_slice(&bytes[..take]);
        self.len += take;
        take
    }

    fn freeze(self) -> Bytes {
        Bytes::from_owner(Frozen(self))
    }
}

struct Frozen(Piece);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        let Piece { memory, len } = &self.0;
        &memory.bytes[memory.start..memory.start + len]
    }
}

/// A growing run of bytes, held in pieces: growing never copies what is there.
#[derive(Default)]
pub struct Pieces {
    full: Vec<Bytes>,
    last: Option<Piece>,
}

impl Pieces {
    /// All bytes, in order.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<Bytes> {
        self.full.extend(self.last.map(Piece::freeze));
        self.full
    }

    /// The full pieces, taken out.
    pub fn take_full(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.full)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = self.last.get_or_insert_with(|| Piece { memory: Memory::take(), len: 0 });
        let taken = piece.fill(bytes);
        if piece.len == PIECE {
            self.full.extend(self.last.take().map(Piece::freeze));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_out_in_order_and_begins_at_a_page() {
        let mut pieces = Pieces::default();
        let text: Vec<u8> = (0..3 * PIECE + 17).map(|n| (n * 7 % 251) as u8).collect();
        for part in text.chunks(100_003) {
            pieces.write_all(part).expect("memory takes it");
        }
        let mut all = pieces.take_full();
        assert_eq!(all.len(), 3);
        all.extend(pieces.into_bytes());
        assert!(all.iter().all(|piece| piece.as_ptr().align_offset(ALIGNMENT) == 0));
        assert_eq!(all.concat(), text);
    }

    #[test]
    fn nothing_written_is_no_piece() {
        assert!(Pieces::default().into_bytes().is_empty());
    }

    #[test]
    fn the_pool_gives_back_what_is_not_needed() {
        let mut pool = Pool { free: (0..100).map(|_| vec![0; 1]).collect(), least: 100, taken: 0 };
        for _ in 0..LOOK * 10 {
            let (bytes, _) = pool.take();
            pool.free.extend(bytes);
        }
        assert!((1..=3).contains(&pool.free.len()), "{} are left", pool.free.len());
    }
}
