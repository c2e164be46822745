//! What a program has told the world about its records, and what of them must, may and must not be in the log.

use std::collections::BTreeMap;

/// The number of a record; a program hands them out in order.
pub(crate) type Id = u32;

/// What a program does and learns, in order.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// A call with these records begins.
    Begun(Vec<Id>),
    /// It returned: they are in the log, durable or not.
    Written(Vec<Id>),
    /// It failed: they are not in the log, or not for sure.
    Failed(Vec<Id>),
    /// They are durable.
    Durable(Vec<Id>),
    /// Their segments are going to be removed.
    Removing(Vec<Id>),
    /// A recovery has given out exactly these: they are durable, all others are gone for good.
    Found(Vec<Id>),
    /// A repair begins: it keeps what is sound, also behind what is not.
    Repairing,
}

impl Note {
    /// Whether a crash that comes later has more to keep.
    pub(crate) fn is_promise(&self) -> bool {
        matches!(self, Note::Durable(_) | Note::Found(_))
    }
}

/// How far the order of a program's calls is the order of what survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// What survives is a beginning of what was written.
    Whole,
    /// Within each segment there is no hole.
    InSegments,
    /// The calls came from several threads.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Written,
    Failed,
    Durable,
    Removing,
    Gone,
}

/// The state of every record after some notes.
#[derive(Debug, Default)]
pub(crate) struct Model {
    records: BTreeMap<Id, State>,
    repaired: bool,
}

impl Model {
    pub(crate) fn after<'a>(notes: impl IntoIterator<Item = &'a Note>) -> Self {
        let mut model = Model::default();
        notes.into_iter().for_each(|note| model.note(note));
        model
    }

    fn note(&mut self, note: &Note) {
        let (ids, state) = match note {
            Note::Begun(ids) => (ids, State::Begun),
            Note::Written(ids) => (ids, State::Written),
            Note::Failed(ids) => (ids, State::Failed),
            Note::Durable(ids) => (ids, State::Durable),
            Note::Removing(ids) => (ids, State::Removing),
            Note::Repairing => {
                self.repaired = true;
                return;
            }
            Note::Found(found) => {
                self.records
                    .values_mut()
                    .filter(|state| **state != State::Removing)
                    .for_each(|state| *state = State::Gone);
                (found, State::Durable)
            }
        };
        self.records.extend(ids.iter().map(|&id| (id, state)));
    }

    /// The first number that no record has.
    pub(crate) fn next_id(&self) -> Id {
        self.records.last_key_value().map_or(1, |(&last, _)| last + 1)
    }

    /// Compares with what a reader found, in its order, with the segments.
    pub(crate) fn check(&self, found: &[(u64, Id)], order: Order) -> Result<(), String> {
        let mut sorted: Vec<Id> = found.iter().map(|&(_, id)| id).collect();
        let in_order = sorted.is_sorted();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("record {} is there twice", pair[0]));
        }
        let has = |id: &Id| sorted.binary_search(id).is_ok();
        for id in &sorted {
            match self.records.get(id) {
                None => return Err(format!("record {id} was never written: invented")),
                Some(State::Gone) => return Err(format!("record {id} was gone and is back")),
                Some(_) => {}
            }
        }
        let lost = self.records.iter().find(|(id, state)| **state == State::Durable && !has(id));
        if let Some((id, _)) = lost {
            return Err(format!("record {id} was acknowledged and is lost"));
        }
        if order == Order::None {
            return Ok(());
        }
        if !in_order {
            return Err("records are out of order".into());
        }
        if self.repaired { Ok(()) } else { self.check_holes(found, order) }
    }

    /// What was not durable is there up to some record, and nothing behind it.
    fn check_holes(&self, found: &[(u64, Id)], order: Order) -> Result<(), String> {
        for pair in found.windows(2).filter(|pair| order == Order::Whole || pair[0].0 == pair[1].0) {
            let between = self.records.range(pair[0].1 + 1..pair[1].1);
            if let Some((id, state)) = between.into_iter().find(|(_, s)| matches!(s, State::Written | State::Begun)) {
                return Err(format!("record {id} ({state:?}) is missing between {pair:?}"));
            }
        }
        Ok(())
    }
}
