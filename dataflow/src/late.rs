//! The late source: what came before the live data's start, one epoch ahead of it.
//!
//! ```text
//!   inlet ─► late ─► (chunk, claim) at (e + 1, now)          e: the epoch of live data
//!              └───► asks: "close e + 1", after so many messages or ticks, and before it ends ─► beats
//! ```
//!
//! It has an operator and a capability of its own, so that the frontier of live data never waits for it. It follows the
//! beats: every tick moves its capability on, also while it is idle, lest it holds compaction; on `close` it leaves
//! `e + 1` for `e + 2`, and enters nothing there until live data has entered `e + 1`. What it enters does not depend on that
//! for being right (stamps are right by the definition of the order), only for being fresh and cheap.
//!
//! What belongs together ([`Part`]) rolls in together: while more of it is to come, the operator stays in `e + 1` although
//! that was closed, and the roll waits. Live data does not.

use std::sync::Arc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, Concatenate, Probe};
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use crate::beats::{Draw, Given, Seat};
use crate::budget::{Budget, Claim};
use crate::clock::Beat;
use crate::moment::Moment;
use crate::ports::{Inlet, Load, Part};

/// Messages that a late operator hands on in one activation: few, since live data waits meanwhile.
const MESSAGES_PER_TURN: usize = 128;
/// How soon it looks again whether live data still lags.
const YIELD: Duration = Duration::from_millis(5);
/// The worker's setting (a [`Duration`]) that says otherwise: where no clock may decide anything, a time that never comes.
pub const YIELD_SETTING: &str = "fink/late-yield";

/// When a late source asks that its epoch be closed.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// After so many messages of this operator.
    pub messages: usize,
    /// So many ticks after its first message.
    pub ticks: u64,
}

impl Default for Close {
    fn default() -> Self {
        Self { messages: 100_000, ticks: 30 }
    }
}

/// Where and how much a late operator draws, and when it lets live data go first.
pub struct LateSeat<I> {
    /// Its own inlet; the budget is the live operator's too.
    pub seat: Seat<I>,
    /// When it asks to close.
    pub close: Close,
    /// Whether live data lags: then nothing is drawn.
    pub yields: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Where a late operator stands: the protocol, without timely.
#[derive(Debug)]
struct Stand {
    close: Close,
    /// The Moment of its capability.
    now: Moment,
    live_epoch: u32,
    /// The tick of the epoch's first message.
    opened: Option<u64>,
    sent: usize,
    asked: bool,
    /// Whether anything was entered, or waited and could not be, since the last beat.
    busy: bool,
    /// Whether more is to come of what must be in this epoch.
    unfinished: bool,
    /// Whether the epoch was closed meanwhile.
    leaving: bool,
}

impl Stand {
    fn new(close: Close) -> Self {
        let now = Moment::new(1, 0);
        Self { close, now, live_epoch: 0, opened: None, sent: 0, asked: false, busy: false, unfinished: false, leaving: false }
    }

    /// Follows a beat. Returns whether to ask that the epoch be closed: nothing came for a whole tick.
    fn beat(&mut self, beat: Beat) -> bool {
        let Self { now, .. } = self;
        debug_assert!(now.epoch == beat.now.epoch + 1 || now.epoch == beat.now.epoch + 2, "{now} at the beat of {}", beat.now);
        if beat.close && now.epoch == beat.now.epoch + 1 {
            if self.unfinished {
                self.leaving = true;
            } else {
                self.leave();
            }
        }
        // A close comes between two ticks.
        let ticked = beat.now.tick > self.now.tick;
        self.now.tick = self.now.tick.max(beat.now.tick);
        self.live_epoch = beat.now.epoch;
        let idle = ticked && !std::mem::take(&mut self.busy);
        idle && self.sent > 0 && !self.unfinished && self.ask()
    }

    /// Goes to the next epoch.
    fn leave(&mut self) {
        self.now.epoch += 1;
        (self.opened, self.sent, self.asked, self.leaving) = (None, 0, false, false);
    }

    /// Whether something may be entered now.
    fn may_enter(&self) -> bool {
        self.now.tick > 0 && self.now.epoch == self.live_epoch + 1 && (!self.asked || self.unfinished)
    }

    /// So many messages were entered, the last of which are such a part. Returns whether to ask that the epoch be closed.
    fn entered(&mut self, messages: usize, part: Part) -> bool {
        let opened = *self.opened.get_or_insert(self.now.tick);
        self.sent += messages.max(1);
        self.busy = true;
        match part {
            Part::More => self.unfinished = true,
            Part::Last => self.unfinished = false,
            Part::Alone => {}
        }
        if self.leaving && !self.unfinished {
            self.leave();
            return false;
        }
        let enough = self.sent >= self.close.messages || self.now.tick - opened >= self.close.ticks;
        !self.unfinished && (part == Part::Last || enough) && self.ask()
    }

    /// Asks, once an epoch.
    fn ask(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }
}

/// A late source: enters what it draws one epoch ahead of live data, while the budget has room to spare and live data does
/// not lag. The second stream are the epochs that it asks to close. It ends when its inlet has; one that may get more
/// to do later keeps its inlet open.
pub fn late<'s, C: Load>(
    scope: Scope<'s, Moment>,
    beats: StreamVec<'s, Moment, Beat>,
    seat: LateSeat<impl Inlet<C> + 'static>,
) -> (StreamVec<'s, Moment, (C, Arc<Claim>)>, StreamVec<'s, Moment, u32>) {
    let mut builder = OperatorBuilder::new("late".to_owned(), scope);
    let mut beats = builder.new_input_connection(beats, Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(C, Arc<Claim>)>>>::from(output);
    let (asks, epochs) = builder.new_output_connection([]);
    let mut asks = OutputBuilder::<_, CapacityContainerBuilder<Vec<u32>>>::from(asks);
    let LateSeat { seat, close, yields } = seat;
    let mut stand = Stand::new(close);
    let patience = scope.worker().config().get(YIELD_SETTING).copied().unwrap_or(YIELD);
    let turns = Turns { draw: Draw::new::<C>(scope, builder.operator_info().address, seat), yields, patience };
    builder.build(move |mut capabilities| {
        // Asks travel under a capability that stays at the minimum: nothing depends on their frontier.
        let mut held: Option<(Capability<Moment>, Capability<Moment>)> = capabilities.pop().zip(capabilities.pop());
        move |frontiers| {
            let mut asking = false;
            beats.for_each(|_, beats| beats.drain(..).for_each(|beat| asking |= stand.beat(beat)));
            let Some((ask, data)) = &mut held else { return };
            // At the first call already: at the minimum it would hold live data.
            data.downgrade(&stand.now);
            // When there are no beats any more, what waits is entered at the last Moment.
            let over = frontiers[0].is_empty();
            let mut ended = false;
            if over || stand.may_enter() {
                let mut drawn = Vec::new();
                ended = turns.turn(over, &mut drawn, &mut stand.busy);
                if !drawn.is_empty() {
                    let part = drawn.last().map_or(Part::Alone, |(chunk, _)| chunk.part());
                    let count = drawn.iter().map(|(chunk, _)| chunk.count()).sum();
                    output.activate().session(&*data).give_container(&mut drawn);
                    asking |= stand.entered(count, part);
                    data.downgrade(&stand.now);
                }
            }
            // Before it ends it asks, or its last rows would stay hidden.
            if asking || (ended && stand.sent > 0 && stand.ask()) {
                asks.activate().session(&*ask).give(stand.now.epoch);
            }
            if ended {
                held = None;
            }
        }
    });
    (stream, epochs)
}

/// The late sources of a graph.
pub struct Lates<'s> {
    scope: Scope<'s, Moment>,
    beats: StreamVec<'s, Moment, Beat>,
    left: ProbeHandle<Moment>,
    asks: Vec<StreamVec<'s, Moment, u32>>,
}

impl<'s> Lates<'s> {
    /// None yet. `left` will stand on all of their streams.
    #[must_use]
    pub fn new(scope: Scope<'s, Moment>, beats: StreamVec<'s, Moment, Beat>, left: ProbeHandle<Moment>) -> Self {
        Self { scope, beats, left, asks: Vec::new() }
    }

    /// One more: what it enters, see [`late`].
    pub fn draw<C: Load>(&mut self, seat: LateSeat<impl Inlet<C> + 'static>) -> StreamVec<'s, Moment, (C, Arc<Claim>)> {
        let (entered, asks) = late(self.scope, self.beats.clone(), seat);
        self.asks.push(asks);
        entered.probe_with(&self.left)
    }

    /// The epochs that any of them asks to close.
    #[must_use]
    pub fn asks(self) -> StreamVec<'s, Moment, u32> {
        self.scope.concatenate(self.asks)
    }
}

/// How a late operator draws: turn by turn, and live data first.
struct Turns<I> {
    draw: Draw<I>,
    yields: Arc<dyn Fn() -> bool + Send + Sync>,
    patience: Duration,
}

impl<I> Turns<I> {
    /// Draws for one turn; `busy` is set where something waits that was not drawn. Returns whether the inlet has ended.
    fn turn<C: Load>(&self, over: bool, drawn: &mut Vec<(C, Arc<Claim>)>, busy: &mut bool) -> bool
    where
        I: Inlet<C>,
    {
        let mut turn = 0;
        while turn < MESSAGES_PER_TURN {
            if !over && (self.yields)() {
                *busy = true;
                self.draw.again(self.patience);
                return false;
            }
            match self.draw.next(Budget::open_to_late) {
                Given::Chunk(given) => {
                    turn += given.0.count() + 1;
                    drawn.push(given);
                }
                Given::Full => {
                    *busy = true;
                    return false;
                }
                Given::Nothing => return false,
                Given::Ended => return true,
            }
        }
        self.draw.again(Duration::ZERO);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    /// A clock and late sources, driven by hand.
    #[derive(Clone, Debug)]
    enum Step {
        /// So many messages come to a source.
        Come(usize, usize, Part),
        /// A tick goes by; a source sees its beat later, if at all in this step.
        Tick,
        /// A source follows the beats that it has not seen.
        Follow(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let part = prop::sample::select(vec![Part::Alone, Part::Alone, Part::More, Part::Last]);
        let come = (0usize..3, 0usize..40, part).prop_map(|(source, count, part)| Step::Come(source, count, part));
        let follow = (0usize..3).prop_map(Step::Follow);
        prop::collection::vec(prop_oneof![3 => come, 2 => Just(Step::Tick), 4 => follow], 0..300)
    }

    /// Sources that share a clock, as timely would run them.
    struct Play {
        clock: Clock,
        sources: Vec<(Stand, Vec<Beat>)>,
        /// The epochs of what was entered, and of live data at that time.
        entered: Vec<(u32, u32)>,
        /// The epoch of what is not whole yet, by source.
        open: [Option<u32>; 3],
        /// Epochs over which something whole was torn.
        torn: Vec<(u32, u32)>,
    }

    impl Play {
        fn new() -> Self {
            let close = Close { messages: 50, ticks: 4 };
            let sources = (0..3).map(|_| (Stand::new(close), Vec::new())).collect();
            Self { clock: Clock::after(Moment::new(0, 9)), sources, entered: Vec::new(), open: [None; 3], torn: Vec::new() }
        }

        fn tell(&mut self, beat: Option<Beat>) {
            self.sources.iter_mut().for_each(|(_, unseen)| unseen.extend(beat));
        }

        fn ask(&mut self, source: usize) {
            let epoch = self.sources[source].0.now.epoch;
            let beat = self.clock.ask(epoch);
            self.tell(beat);
        }

        fn follow(&mut self, source: usize) {
            for beat in std::mem::take(&mut self.sources[source].1) {
                if self.sources[source].0.beat(beat) {
                    self.ask(source);
                }
            }
        }

        fn step(&mut self, step: &Step) {
            match step {
                Step::Come(source, count, part) => {
                    let live = self.clock.now().epoch;
                    let stand = &mut self.sources[*source].0;
                    if stand.may_enter() {
                        let epoch = stand.now.epoch;
                        self.entered.push((epoch, live));
                        if let Some(before) = self.open[*source].filter(|before| *before != epoch) {
                            self.torn.push((before, epoch));
                        }
                        self.open[*source] = match part {
                            Part::More => Some(epoch),
                            Part::Last => None,
                            Part::Alone => self.open[*source],
                        };
                        if stand.entered(*count, *part) {
                            self.ask(*source);
                        }
                    }
                }
                Step::Tick => {
                    let epochs: Vec<u32> = self.sources.iter().map(|(stand, _)| stand.now.epoch).collect();
                    let tick = self.clock.now().tick;
                    let beat = self.clock.due(1, tick, |epoch| epochs.iter().all(|e| *e > epoch));
                    self.tell(beat);
                }
                Step::Follow(source) => self.follow(*source),
            }
        }
    }

    proptest! {
        #[test]
        fn late_data_is_at_most_one_epoch_ahead_and_every_epoch_rolls(steps in steps()) {
            let mut play = Play::new();
            steps.iter().for_each(|step| play.step(step));
            prop_assert!(play.entered.iter().all(|(late, live)| *late == live + 1), "{:?}", play.entered);
            prop_assert!(play.torn.is_empty(), "{:?}", play.torn);
            // What was begun is ended.
            for _ in 0..3 {
                (0..3).for_each(|source| play.step(&Step::Follow(source)));
                let open: Vec<usize> = (0..3).filter(|source| play.open[*source].is_some()).collect();
                open.into_iter().for_each(|source| play.step(&Step::Come(source, 1, Part::Last)));
                play.step(&Step::Tick);
            }
            // Left alone, every source asks, and what was entered becomes part of the live answer.
            for _ in 0..20 {
                (0..3).for_each(|source| play.step(&Step::Follow(source)));
                play.step(&Step::Tick);
            }
            let last = play.entered.iter().map(|(late, _)| *late).max().unwrap_or(0);
            prop_assert!(play.clock.now().epoch >= last, "{} never rolled in: {:?}", last, play.clock);
        }
    }

    #[test]
    fn an_epoch_is_asked_to_close_by_messages_by_ticks_and_when_nothing_comes() {
        let beat = |tick| Beat { now: Moment::new(0, tick), close: false };
        let mut stand = Stand::new(Close { messages: 10, ticks: 3 });
        assert!(!stand.may_enter(), "before the first beat it would enter at what was durable before");
        assert!(!stand.beat(beat(5)));
        assert!(!stand.entered(9, Part::Alone) && stand.entered(1, Part::Alone) && !stand.entered(1, Part::Alone));
        assert!(!stand.may_enter());
        let mut stand = Stand::new(Close { messages: 10, ticks: 3 });
        assert!(!stand.beat(beat(5)) && !stand.entered(1, Part::Alone));
        assert!(!stand.beat(beat(6)) && !stand.entered(1, Part::Alone) && !stand.beat(beat(7)) && !stand.entered(1, Part::Alone));
        assert!(!stand.beat(beat(8)) && stand.entered(1, Part::Alone));
        let mut stand = Stand::new(Close { messages: 10, ticks: 3 });
        assert!(!stand.beat(beat(5)) && !stand.entered(1, Part::Alone));
        assert!(!stand.beat(beat(6)), "something came since the last beat");
        assert!(stand.beat(beat(7)) && !stand.beat(beat(8)));
    }
}
