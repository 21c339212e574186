//! `meshfilter top` and `meshfilter tap`: what is happening, from what a stock Envoy says.
//!
//! For `top`, from the outside in, each a function of the one before:
//!
//! | module | what it makes |
//! |---|---|
//! | [`admin`] | answers of the admin interface, bounded in size and time |
//! | [`stats`] | the series in them |
//! | [`ledger`] | what came within the window, whatever is restarted or pushed meanwhile |
//! | [`fleet`] | which Envoys answer |
//! | [`picture`] | rates, shares, quantiles, comparisons: what `--format json` prints |
//! | [`table`], [`view`] | rows and cells, and what keys choose of them |
//! | [`screen`], [`plain`] | the screen, the text of `--once` |
//! | [`App`] | all of it together, for a screen that lasts |
//!
//! [`tap`] reads the JSON access log, and asks `explain` why.

mod admin;
mod app;
mod fleet;
mod labelled;
mod ledger;
mod metric;
mod noise;
mod picture;
mod plain;
mod quantile;
mod screen;
mod stats;
mod table;
pub(crate) mod tap;
pub(crate) mod top;
mod view;

pub use app::App;
pub use picture::By;

#[cfg(test)]
mod tests;
