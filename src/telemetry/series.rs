//! How fast answers were over the last hour, one point for each slot of time.
//!
//! **Invariant:** no more than an hour's points are kept of each line.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Points in an hour.
pub(super) const POINTS: usize = 720;

/// How long the answers of the minute before took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    pub at: Instant,
    pub p50: Duration,
    pub p95: Duration,
    pub turns: u64,
}

/// The points of one line, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Point>);

impl Line {
    pub(super) fn push(&mut self, point: Point) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    /// Returns the points after this instant.
    pub(super) fn since(&self, instant: Option<Instant>) -> Vec<Point> {
        let points = self.0.iter().copied();

        points
            .filter(|point| instant.is_none_or(|instant| point.at > instant))
            .collect()
    }
}
