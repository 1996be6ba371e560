//! What the fuzz targets check.
//!
//! [`checks`] takes bytes as somebody else wrote them; [`structured`] makes values of them first.

pub mod checks;
pub mod structured;
