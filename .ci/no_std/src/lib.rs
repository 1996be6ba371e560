//! A program without the standard library that drives the core: it builds only while neither the
//! core nor anything below it draws in `std`, whose panic handler would collide with this one.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use jetwake::config::Config;
use jetwake::event::Event;
use jetwake::node::Node;
use jetwake::time::Time;

/// An allocator that has nothing: the library is linked, never run.
struct Nothing;

// SAFETY: a null pointer is how an allocator refuses, and nothing is ever handed out to free.
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _layout: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _pointer: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static NOTHING: Nothing = Nothing;

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Goes once around the loop of the contract, so that all of it is linked. Gives the time of the
/// next deadline in nanoseconds, or zero.
#[unsafe(no_mangle)]
pub extern "C" fn jetwake_drive_once(now: u64) -> u64 {
    let config = Config {
        name: String::from("a"),
        seed: 1,
        limits: Default::default(),
        timers: Default::default(),
        groups: Vec::new(),
        domain: String::new(),
    };
    let Ok(mut node) = Node::new(config) else { return 0 };
    node.handle(Time::from_nanos(now), Event::DeadlineReached);
    while node.poll().is_some() {}
    node.deadline().map_or(0, |(when, _)| when.as_nanos())
}
