//! Three real nodes, run and asked as a user would: kills of leaders, and disks that go bad.

mod damage;
mod kills;
mod rig;
