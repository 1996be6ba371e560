//! How much of clients' requests is open, for whoever reads no more of them at a bound.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Requests that are not answered yet: how many, and the bytes that they are counted with.
#[derive(Debug, Default)]
pub(super) struct Room {
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    count: usize,
    weight: usize,
}

impl Room {
    /// So many more are open, of this weight together.
    pub(super) fn take(&self, count: usize, weight: usize) {
        self.change(|open| {
            open.count = open.count.saturating_add(count);
            open.weight = open.weight.saturating_add(weight);
        });
    }

    /// One of this weight was answered.
    pub(super) fn give_back(&self, weight: usize) {
        self.change(|open| {
            open.count = open.count.saturating_sub(1);
            open.weight = open.weight.saturating_sub(weight);
        });
        self.look_again();
    }

    /// Something else that was waited for may have changed.
    pub(super) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Waits until the count and the weight of what is open leave room.
    pub(super) async fn wait(&self, has_room: impl Fn(usize, usize) -> bool) {
        while !self.change(|open| has_room(open.count, open.weight)) {
            self.changed.notified().await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Open) -> T) -> T {
        // Two numbers that no statement can leave half changed.
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
