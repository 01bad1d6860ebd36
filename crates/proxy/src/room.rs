//! A worker's room for connections: so many at a time, and how many may change while they are there.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// The room of one worker.
pub struct Room {
    limit: Cell<usize>,
    taken: Cell<usize>,
    free: Notify,
    empty: Notify,
}

/// One connection's part of it, free again when dropped.
pub struct Seat(Rc<Room>);

impl Room {
    /// Room for so many.
    pub fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { limit: Cell::new(limit), taken: Cell::new(0), free: Notify::new(), empty: Notify::new() })
    }

    /// Room for so many from now on. Whoever is there stays, even if it is too many.
    pub fn resize(&self, limit: usize) {
        self.limit.set(limit);
        self.free.notify_waiters();
    }

    /// How many are there.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Waits for a seat and takes it.
    pub async fn take(self: &Rc<Self>) -> Seat {
        loop {
            if self.taken.get() < self.limit.get() {
                self.taken.set(self.taken.get() + 1);
                return Seat(Rc::clone(self));
            }
            self.free.notified().await;
        }
    }

    /// Waits until nobody is there. For one that waits; nobody may take a seat meanwhile.
    pub async fn emptied(&self) {
        while self.taken.get() > 0 {
            self.empty.notified().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let room = &self.0;
        room.taken.set(room.taken.get() - 1);
        if room.taken.get() < room.limit.get() {
            // Remembered if nobody waits, so that none is lost between a look and a wait.
            room.free.notify_one();
        }
        if room.taken.get() == 0 {
            room.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn it_grows_and_shrinks_while_it_is_used() {
        let room = Room::new(1);
        let first = room.take().await;
        assert!(timeout(SHORT, room.take()).await.is_err(), "it is full");
        room.resize(2);
        let second = timeout(SHORT, room.take()).await.expect("it has grown");
        room.resize(1);
        drop(first);
        assert!(timeout(SHORT, room.take()).await.is_err(), "one is still there, and one is all");
        drop(second);
        let third = timeout(SHORT, room.take()).await.expect("it is free again");
        assert_eq!(room.taken(), 1);
        drop(third);
        timeout(SHORT, room.emptied()).await.expect("it is empty");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_seat() {
        let room = Room::new(1);
        let first = room.take().await;
        let waiting = room.take();
        tokio::pin!(waiting);
        assert!(timeout(SHORT, &mut waiting).await.is_err());
        drop(first);
        timeout(SHORT, waiting).await.expect("a seat");
        let full = room.take().await;
        room.resize(3);
        let (one, two) = tokio::join!(room.take(), room.take());
        drop((full, one, two));
        timeout(SHORT, room.emptied()).await.expect("it is empty");
    }
}
