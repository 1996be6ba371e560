//! What the fuzz targets check.
//!
//! [`checks`] and [`frames`] take bytes as somebody else wrote them; [`structured`] makes values of
//! them first.

pub mod checks;
pub mod frames;
pub mod structured;
mod transport;
