//! Peers at stable small indices, with a generation that changes when a place is reused.

use super::ids::PeerIndex;

/// A vector with holes. Its index is a [`PeerIndex`].
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<SlabPlace<T>>,
    free: Vec<PeerIndex>,
}

#[derive(Debug)]
struct SlabPlace<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Puts a value in and returns its place.
    pub(super) fn insert(&mut self, value: T) -> PeerIndex {
        if let Some(index) = self.free.pop() {
            self.places[index.index()].value = Some(value);
            return index;
        }
        let index = self.vacant();
        self.places.push(SlabPlace {
            generation: 0,
            value: Some(value),
        });
        index
    }

    /// The place that the next value gets.
    pub(super) fn vacant(&self) -> PeerIndex {
        let end = PeerIndex(self.places.len() as u32);
        self.free.last().copied().unwrap_or(end)
    }

    pub(super) fn remove(&mut self, index: PeerIndex) -> Option<T> {
        let place = self.places.get_mut(index.index())?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    pub(super) fn get(&self, index: PeerIndex) -> Option<&T> {
        self.places.get(index.index())?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: PeerIndex) -> Option<&mut T> {
        self.places.get_mut(index.index())?.value.as_mut()
    }

    /// Changes when the place is given to another value.
    pub(super) fn generation(&self, index: PeerIndex) -> u32 {
        self.places[index.index()].generation
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The places in use.
    pub(super) fn indices(&self) -> Vec<PeerIndex> {
        (0..self.places.len() as u32)
            .map(PeerIndex)
            .filter(|&index| self.get(index).is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reused_with_another_generation() {
        let mut slab = Slab::new();
        assert_eq!(slab.vacant(), PeerIndex(0));
        let first = slab.insert("a");
        let generation = slab.generation(first);
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.vacant(), first);
        let second = slab.insert("b");
        assert_eq!((second, slab.len()), (first, 1));
        assert_ne!(slab.generation(second), generation);
        assert_eq!(slab.get(second), Some(&"b"));
    }
}
