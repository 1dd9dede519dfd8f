//! Searching from where the last search ended.

/// The first of `length` places at which `before` does not hold, which it does up to there: looked for from `near` on, in
/// steps that double, as whoever asks in ascending order finds the next place close by.
pub(super) fn partition_point_near(
    length: usize,
    near: usize,
    before: impl Fn(usize) -> bool,
) -> usize {
    let near = near.min(length);
    let (mut low, mut high) = (near, near);
    let mut step = 1;
    if near < length && before(near) {
        (low, high) = (near + 1, length);
        while let Some(probe) = Some(low + step - 1).filter(|probe| *probe < length) {
            if !before(probe) {
                high = probe;
                break;
            }
            low = probe + 1;
            step *= 2;
        }
    } else {
        while high > 0 {
            low = high.saturating_sub(step);
            if before(low) {
                low += 1;
                break;
            }
            high = low;
            step *= 2;
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::partition_point_near;

    #[test]
    fn it_is_the_partition_point_from_wherever_it_is_looked_for() {
        for length in 0..40 {
            for point in 0..=length {
                for near in 0..length + 3 {
                    let found = partition_point_near(length, near, |place| {
                        assert!(place < length, "{place} of {length}");
                        place < point
                    });
                    assert_eq!(found, point, "of {length} from {near}");
                }
            }
        }
    }
}
