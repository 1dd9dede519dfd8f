//! Points of edwards25519 (-x^2 + y^2 = 1 + d x^2 y^2), eight at a time, by complete formulas.
//!
//! Formulas: EFD "extended coordinates with a = -1", dbl-2008-hwcd and add-2008-hwcd-3 (and madd-2008-hwcd-3 for the
//! affine case). Each of E, F, G, H is a linear combination of wide products and is carried once. All four of a doubling are the
//! negations of dbl-2008-hwcd's.

use zeroize::Zeroize;

use super::{
    Cpu,
    field::{D2, Fe, ONE, Wide},
    lanes::Mask,
};

/// x = X/Z, y = Y/Z, T = XY/Z.
#[derive(Clone, Copy)]
pub(super) struct Extended {
    pub(super) x: Fe,
    pub(super) y: Fe,
    pub(super) z: Fe,
    pub(super) t: Fe,
}

/// x = X/Z, y = Y/Z.
#[derive(Clone, Copy)]
pub(super) struct Projective {
    pub(super) x: Fe,
    pub(super) y: Fe,
    pub(super) z: Fe,
}

/// x = E/G, y = H/F: a doubling or a sum before its last products X = EF, Y = GH, Z = FG, T = EH.
#[derive(Clone, Copy)]
pub(super) struct Completed {
    pub(super) e: Fe,
    pub(super) f: Fe,
    pub(super) g: Fe,
    pub(super) h: Fe,
}

/// A left operand of an addition: (Y - X, Y + X, Z, T).
#[derive(Clone, Copy)]
pub(super) struct Augend {
    y_minus_x: Fe,
    y_plus_x: Fe,
    z: Fe,
    t: Fe,
}

/// A right operand of an addition: (Y - X, Y + X, 2Z, 2dT).
#[derive(Clone, Copy)]
pub(super) struct Cached {
    pub(super) y_minus_x: Fe,
    pub(super) y_plus_x: Fe,
    pub(super) z2: Fe,
    pub(super) t2d: Fe,
}

/// A right operand with Z = 1: (y - x, y + x, 2dxy).
#[derive(Clone, Copy)]
pub(super) struct AffineCached {
    pub(super) y_minus_x: Fe,
    pub(super) y_plus_x: Fe,
    pub(super) xy2d: Fe,
}

impl Extended {
    #[inline(always)]
    pub(super) fn identity(cpu: Cpu) -> Self {
        let (zero, one) = (Fe::zero(cpu), Fe::constant(cpu, ONE));
        Self {
            x: zero,
            y: one,
            z: one,
            t: zero,
        }
    }

    #[inline(always)]
    pub(super) const fn projective(&self) -> Projective {
        Projective {
            x: self.x,
            y: self.y,
            z: self.z,
        }
    }

    #[inline(always)]
    pub(super) fn augend(&self) -> Augend {
        Augend {
            y_minus_x: self.y.sub(&self.x),
            y_plus_x: self.y.add(&self.x),
            z: self.z,
            t: self.t,
        }
    }

    #[inline(always)]
    pub(super) fn cached(&self) -> Cached {
        Cached {
            y_minus_x: self.y.sub(&self.x),
            y_plus_x: self.y.add(&self.x),
            z2: self.z.add(&self.z),
            t2d: self.t.mul(&self.t.with(D2)),
        }
    }

    /// `self`, or `other` where the mask is set.
    #[inline(always)]
    pub(super) fn or_where(&self, mask: Mask, other: &Self) -> Self {
        Self {
            x: self.x.or_where(mask, &other.x),
            y: self.y.or_where(mask, &other.y),
            z: self.z.or_where(mask, &other.z),
            t: self.t.or_where(mask, &other.t),
        }
    }
}

impl Projective {
    /// 2P: dbl-2008-hwcd. X + Y takes a carry of its own, and its square still costs less than the product XY.
    #[inline(always)]
    pub(super) fn double(&self) -> Completed {
        let xx = self.x.square_wide_biased();
        let yy = self.y.square_wide();
        let zz = self.z.square_wide();
        let h = xx.add(yy);
        let g = xx.sub(yy);
        Completed {
            e: h.sub(self.x.add(&self.y).square_wide()).carry(),
            f: zz.double().add(g).carry(),
            g: g.carry(),
            h: h.carry(),
        }
    }
}

impl Completed {
    #[inline(always)]
    pub(super) fn projective(&self) -> Projective {
        Projective {
            x: self.e.mul(&self.f),
            y: self.g.mul(&self.h),
            z: self.f.mul(&self.g),
        }
    }

    #[inline(always)]
    pub(super) fn extended(&self) -> Extended {
        Extended {
            x: self.e.mul(&self.f),
            y: self.g.mul(&self.h),
            z: self.f.mul(&self.g),
            t: self.e.mul(&self.h),
        }
    }

    /// Ready for an addition: Y - X and Y + X come from wide products, with one carry each.
    #[inline(always)]
    pub(super) fn augend(&self) -> Augend {
        let x = self.e.mul_wide(&self.f);
        let y = self.g.mul_wide_biased(&self.h);
        Augend {
            y_minus_x: y.sub(x).carry(),
            y_plus_x: y.add(x).carry(),
            z: self.f.mul(&self.g),
            t: self.e.mul(&self.h),
        }
    }
}

impl Augend {
    /// P + Q, or P - Q where the mask is set: add-2008-hwcd-3.
    #[inline(always)]
    pub(super) fn add(&self, q: &Cached, negative: Mask) -> Completed {
        let d = self.z.mul_wide_biased(&q.z2);
        self.finish(d, &q.y_minus_x, &q.y_plus_x, &q.t2d, negative)
    }

    /// P + Q, or P - Q where the mask is set, for affine Q: madd-2008-hwcd-3.
    #[inline(always)]
    pub(super) fn add_affine(&self, q: &AffineCached, negative: Mask) -> Completed {
        let d = self.z.wide_biased().add(self.z.wide());
        self.finish(d, &q.y_minus_x, &q.y_plus_x, &q.xy2d, negative)
    }

    /// -Q swaps Y - X with Y + X and negates T, and with it the product C = T1 * 2dT2.
    #[inline(always)]
    fn finish(
        &self,
        d: Wide,
        y_minus_x: &Fe,
        y_plus_x: &Fe,
        t2d: &Fe,
        negative: Mask,
    ) -> Completed {
        let a = self
            .y_minus_x
            .mul_wide(&y_minus_x.or_where(negative, y_plus_x));
        let b = self
            .y_plus_x
            .mul_wide_biased(&y_plus_x.or_where(negative, y_minus_x));
        let c = self.t.mul_wide(t2d).negate_where(negative);
        Completed {
            e: b.sub(a).carry(),
            f: d.sub(c).carry(),
            g: d.add(c).carry(),
            h: b.add(a).carry(),
        }
    }
}

impl Zeroize for Extended {
    fn zeroize(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
        self.z.zeroize();
        self.t.zeroize();
    }
}

impl Zeroize for Completed {
    fn zeroize(&mut self) {
        self.e.zeroize();
        self.f.zeroize();
        self.g.zeroize();
        self.h.zeroize();
    }
}

impl Zeroize for Cached {
    fn zeroize(&mut self) {
        self.y_minus_x.zeroize();
        self.y_plus_x.zeroize();
        self.z2.zeroize();
        self.t2d.zeroize();
    }
}

impl Zeroize for Augend {
    fn zeroize(&mut self) {
        self.y_minus_x.zeroize();
        self.y_plus_x.zeroize();
        self.z.zeroize();
        self.t.zeroize();
    }
}
