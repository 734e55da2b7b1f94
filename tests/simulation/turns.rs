//! Where the time of turns went.

use voxline::core::latency::TurnTrace;

use crate::World;

impl World {
    pub(crate) fn check_turn(&mut self, trace: &TurnTrace) {
        self.saw("turn");
        if trace.is_estimated() {
            self.saw("turn estimated");
        }
        if trace.known().count() == trace.hops.len() {
            self.saw("turn known whole");
        }
        self.promise(trace.sum() == trace.total, "the hops sum to the total");
        self.promise(trace.began <= self.now, "a turn begins before it is told");
        self.promise(
            trace.turn == self.turns + 1,
            "turns are told once, in order",
        );
        self.turns = trace.turn;
    }
}
