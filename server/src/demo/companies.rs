//! Two sample companies, messy on purpose and the same every time.
//!
//! One generator makes a universe of businesses, each with a name, a domain, people and a phone number. Company A keeps the
//! first [`CUSTOMERS`] of them, company B the last, so [`SHARED`] businesses are in both; each side then writes its records
//! the way real systems do: other people of the same business, upper case, plus-tags, URLs for domains, phone numbers in
//! national and international form, free-mail addresses, and duplicates under a second id.

use super::random::Random;

/// Businesses each side keeps, duplicates not counted.
pub const CUSTOMERS: usize = 2_000;
/// Businesses both sides keep.
pub const SHARED: usize = 640;
/// Where the random numbers start.
const SEED: u64 = 0x4f56_4c31;

/// Which of the two companies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Company A.
    A,
    /// Company B.
    B,
}

impl Side {
    /// The organisation's name.
    #[must_use]
    pub const fn organization(self) -> &'static str {
        match self {
            Self::A => "Aurora CRM",
            Self::B => "Beacon Billing",
        }
    }

    /// The sharing policy it starts with.
    #[must_use]
    pub const fn policy(self) -> &'static str {
        match self {
            Self::A => include_str!("policy_a.toml"),
            Self::B => include_str!("policy_b.toml"),
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    /// Stages with their share of customers in percent.
    const fn stages(self) -> [(&'static str, u64); 6] {
        match self {
            Self::A => [
                ("Prospect", 30),
                ("Lead", 18),
                ("Deal", 14),
                ("Customer", 28),
                ("Lost", 6),
                ("Churned", 4),
            ],
            Self::B => [
                ("Prospect", 22),
                ("Lead", 20),
                ("Deal", 10),
                ("Customer", 38),
                ("Lost", 5),
                ("Churned", 5),
            ],
        }
    }
}

/// A business of the universe.
struct Business {
    name: String,
    domain: String,
    people: Vec<&'static str>,
    phone: Phone,
    industry: &'static str,
    region: &'static str,
}

/// A phone number in the two ways people write it.
struct Phone {
    international: String,
    written: String,
}

/// The customer file of one side, as CSV.
#[must_use]
pub fn customers_csv(side: Side) -> String {
    let mut random = Random::new(SEED);
    let universe: Vec<Business> = (0..2 * CUSTOMERS - SHARED)
        .map(|index| random.business(index))
        .collect();
    let (kept, salt) = match side {
        Side::A => (&universe[..CUSTOMERS], 1),
        Side::B => (&universe[CUSTOMERS - SHARED..], 2),
    };
    let mut random = Random::new(SEED ^ (salt << 32));
    let mut csv =
        String::from("id,stage,email,phone,domain,external_id,name,owner,industry,region,plan\n");
    let mut number = 0;
    for business in kept {
        let stage = random.weighted(&side.stages());
        let mut first = None;
        // One business in 25 stands twice in the file, under another id and often at another stage.
        let rows = if random.one_in(25) { 2 } else { 1 };
        for row in 0..rows {
            number += 1;
            let stage = if row == 0 {
                stage
            } else {
                random.weighted(&side.stages())
            };
            let emails = random.emails(business, first.as_deref());
            first = first.or_else(|| emails.first().cloned());
            let fields = [
                format!("{}-{number:05}", side.prefix()),
                stage.to_owned(),
                emails.join(";"),
                random.phone(business),
                random.domain(business),
                if random.one_in(8) {
                    format!(
                        "duns-{:09}",
                        100_000_000 + hash(&business.domain) % 900_000_000
                    )
                } else {
                    String::new()
                },
                random.name(business),
                (*random.pick(&OWNERS)).to_owned(),
                business.industry.to_owned(),
                business.region.to_owned(),
                (*random.pick(&["Free", "Team", "Enterprise"])).to_owned(),
            ];
            push_row(&mut csv, &fields);
        }
    }
    csv
}

fn push_row(csv: &mut String, fields: &[String]) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            csv.push(',');
        }
        if field.contains([',', '"', '\n']) {
            csv.push('"');
            csv.push_str(&field.replace('"', "\"\""));
            csv.push('"');
        } else {
            csv.push_str(field);
        }
    }
    csv.push('\n');
}

/// FNV-1a: a stable number for a name.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Random {
    fn business(&mut self, index: usize) -> Business {
        let (stem, ascii) = *self.pick(&STEMS);
        let (suffix, slug) = *self.pick(&TRADES);
        let (tld, region, country_code, digits) = *self.pick(&COUNTRIES);
        let mut people: Vec<&'static str> = Vec::new();
        while people.len() < 4 {
            let person = *self.pick(&PEOPLE);
            if !people.contains(&person) {
                people.push(person);
            }
        }
        // The number keeps domains apart; some registries allow the accented name itself.
        let stem_slug = if self.one_in(12) {
            stem.to_lowercase().replace([' ', '’'], "-")
        } else {
            ascii.to_owned()
        };
        Business {
            name: format!("{stem} {suffix}"),
            domain: format!("{stem_slug}-{slug}{index}.{tld}"),
            people,
            phone: Phone::new(country_code, digits, index),
            industry: self.pick::<&str>(&INDUSTRIES),
            region,
        }
    }

    /// One to three addresses of a business; a duplicate row repeats `known` so that the rows belong together.
    fn emails(&mut self, business: &Business, known: Option<&str>) -> Vec<String> {
        let mut emails: Vec<String> = known.map(ToOwned::to_owned).into_iter().collect();
        for _ in 0..=self.below(3) {
            let person = *self.pick(&business.people);
            let address = match self.below(20) {
                // A private address: it matches as an e-mail address, its domain never as a company.
                0 => format!(
                    "{person}.{}@{}",
                    hash(&business.domain) % 1_000_000,
                    self.pick(&["gmail.com", "outlook.com", "web.de", "qq.com"])
                ),
                // A tag makes it another address, which is then matched by another key if at all.
                1 => format!(
                    "{person}+{}@{}",
                    self.pick(&["crm", "billing", "news"]),
                    business.domain
                ),
                2..=5 => format!(
                    "{}@{}",
                    person.to_uppercase(),
                    business.domain.to_uppercase()
                ),
                6 => format!("{}@{}", capitalized(person), business.domain),
                _ => format!("{person}@{}", business.domain),
            };
            if !emails.contains(&address) {
                emails.push(address);
            }
        }
        emails
    }

    fn phone(&mut self, business: &Business) -> String {
        match self.below(5) {
            0 | 1 => String::new(),
            2 | 3 => business.phone.written.clone(),
            _ => business.phone.international.clone(),
        }
    }

    fn domain(&mut self, business: &Business) -> String {
        let domain = &business.domain;
        match self.below(10) {
            0..=2 => String::new(),
            3 => format!("https://www.{domain}/about?ref=crm"),
            4 => domain.to_uppercase(),
            5 => format!("www.{domain}"),
            6 => "gmail.com".to_owned(),
            _ => domain.clone(),
        }
    }

    fn name(&mut self, business: &Business) -> String {
        match self.below(8) {
            0 => business.name.to_uppercase(),
            1 => format!("{}, Inc.", business.name),
            2 => format!("{} \"{}\"", business.name, business.region),
            _ => business.name.clone(),
        }
    }
}

impl Phone {
    /// A national number that starts with `digits` and ends in the business's own four.
    fn new(country_code: &str, digits: &str, index: usize) -> Self {
        let national = format!("{digits}{index:04}");
        let (area, rest) = national.split_at(3);
        let written = if country_code == "1" {
            format!("({area}) {}-{}", &rest[..3], &rest[3..])
        } else {
            format!("+{country_code} {area} {rest}")
        };
        Self {
            international: format!("+{country_code}{national}"),
            written,
        }
    }
}

fn capitalized(name: &str) -> String {
    let mut characters = name.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

const STEMS: [(&str, &str); 40] = [
    ("Ångström", "angstroem"),
    ("Bücherwurm", "buecherwurm"),
    ("Çelik", "celik"),
    ("Dvořák", "dvorak"),
    ("Église Saint-Rémy", "saint-remy"),
    ("Fjällräven Nord", "fjall-nord"),
    ("Größe", "groesse"),
    ("Håkonsen", "hakonsen"),
    ("İstanbul", "istanbul"),
    ("Jiménez", "jimenez"),
    ("Kovács", "kovacs"),
    ("Łódź", "lodz"),
    ("Müller", "mueller"),
    ("Núñez", "nunez"),
    ("Østergaard", "oestergaard"),
    ("Pâtisserie Durand", "durand"),
    ("Quinn", "quinn"),
    ("Rømer", "romer"),
    ("São Bento", "sao-bento"),
    ("Tōkyō Minato", "tokyo-minato"),
    ("Überlingen", "ueberlingen"),
    ("Vörös", "voros"),
    ("Woźniak", "wozniak"),
    ("Xander", "xander"),
    ("Ysaÿe", "ysaye"),
    ("Žižkov", "zizkov"),
    ("Harbour", "harbour"),
    ("Keystone", "keystone"),
    ("Lighthouse", "lighthouse"),
    ("Meadow", "meadow"),
    ("Northgate", "northgate"),
    ("Orchard", "orchard"),
    ("Pinecrest", "pinecrest"),
    ("Riverside", "riverside"),
    ("Silverline", "silverline"),
    ("Thornhill", "thornhill"),
    ("Upland", "upland"),
    ("Westbrook", "westbrook"),
    ("Yellowfin", "yellowfin"),
    ("O’Sullivan", "osullivan"),
];

const TRADES: [(&str, &str); 16] = [
    ("Analytics", "analytics"),
    ("Bank", "bank"),
    ("Clinics", "clinics"),
    ("Dental", "dental"),
    ("Energy", "energy"),
    ("Foods", "foods"),
    ("Freight", "freight"),
    ("Hotels", "hotels"),
    ("Insurance", "insurance"),
    ("Labs", "labs"),
    ("Logistics", "logistics"),
    ("Media", "media"),
    ("Outdoor", "outdoor"),
    ("Robotics", "robotics"),
    ("Software", "software"),
    ("Textiles", "textiles"),
];

/// Top-level domain, region, country calling code, and the leading digits of a valid national number.
const COUNTRIES: [(&str, &str, &str, &str); 8] = [
    ("com", "North America", "1", "415555"),
    ("com", "North America", "1", "212555"),
    ("co.uk", "Europe", "44", "207946"),
    ("de", "Europe", "49", "3012345"),
    ("fr", "Europe", "33", "14027"),
    ("se", "Europe", "46", "84464"),
    ("com.au", "Asia Pacific", "61", "29876"),
    ("co.jp", "Asia Pacific", "81", "34567"),
];

const PEOPLE: [&str; 24] = [
    "aisha.khan",
    "ben.carter",
    "chloe.dubois",
    "diego.ramos",
    "elin.berg",
    "farah.aziz",
    "goran.petrov",
    "hana.sato",
    "ivan.novak",
    "jonas.weber",
    "kofi.mensah",
    "lena.fischer",
    "mei.chen",
    "nils.lund",
    "olga.ivanova",
    "paulo.silva",
    "quentin.roux",
    "rosa.marino",
    "sven.holm",
    "tara.singh",
    "uma.patel",
    "victor.hugo",
    "wanda.kowal",
    "yusuf.demir",
];

const OWNERS: [&str; 6] = [
    "Dana Whitfield",
    "Emeka Obi",
    "Freya Lindqvist",
    "Hugo Marchetti",
    "Iris Tan",
    "Jamal Brooks",
];

const INDUSTRIES: [&str; 8] = [
    "Agriculture",
    "Education",
    "Energy",
    "Financial services",
    "Health care",
    "Hospitality",
    "Manufacturing",
    "Retail",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{CUSTOMERS, Side, customers_csv};

    #[test]
    fn the_files_are_the_same_every_time_and_messy() {
        for side in [Side::A, Side::B] {
            let csv = customers_csv(side);
            assert_eq!(csv, customers_csv(side));
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
            assert!(
                rows.len() > CUSTOMERS && rows.len() < CUSTOMERS + CUSTOMERS / 10,
                "{} rows",
                rows.len()
            );
            let ids: HashSet<&str> = rows.iter().map(|row| &row[0]).collect();
            assert_eq!(ids.len(), rows.len(), "ids repeat");
            assert!(
                csv.contains("@gmail.com") && csv.contains("+crm@") && csv.contains("https://www.")
            );
            assert!(
                rows.iter().any(|row| row[2].split(';').count() > 2),
                "no row with several addresses"
            );
        }
        assert_ne!(customers_csv(Side::A), customers_csv(Side::B));
    }
}
