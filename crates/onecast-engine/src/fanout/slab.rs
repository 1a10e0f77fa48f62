//! Values at stable small indices, with a generation that changes when a place is reused.

/// A vector with holes.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<SlabPlace<T>>,
    free: Vec<u32>,
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
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.places[index as usize].value = Some(value);
            return index;
        }
        self.places.push(SlabPlace {
            generation: 0,
            value: Some(value),
        });
        self.places.len() as u32 - 1
    }

    /// The place that the next value gets.
    pub(super) fn vacant(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.places.len() as u32)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let place = self.places.get_mut(index as usize)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.value.as_mut()
    }

    /// Changes when the place is given to another value.
    pub(super) fn generation(&self, index: u32) -> u32 {
        self.places[index as usize].generation
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The places in use.
    pub(super) fn indices(&self) -> Vec<u32> {
        (0..self.places.len() as u32)
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
        assert_eq!(slab.vacant(), 0);
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
