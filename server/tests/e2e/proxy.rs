//! A cable between two nodes that can be pulled.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

/// Carries TCP connections to another address until they are cut.
pub struct Proxy {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    to: SocketAddr,
    open: Mutex<Vec<TcpStream>>,
    carried: AtomicU32,
    refusing: AtomicBool,
}

impl Proxy {
    pub fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            to,
            open: Mutex::new(Vec::new()),
            carried: AtomicU32::new(0),
            refusing: AtomicBool::new(false),
        });
        let there = Arc::clone(&inner);
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                there.carry(caller);
            }
        });
        Self { address, inner }
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for stream in self.inner.open.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts every connection and takes no other, or takes them again.
    pub fn refuse(&self, refuse: bool) {
        self.inner.refusing.store(refuse, Ordering::SeqCst);
        if refuse {
            self.cut();
        }
    }

    /// Connections carried so far.
    pub fn carried(&self) -> u32 {
        self.inner.carried.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn carry(self: &Arc<Self>, caller: TcpStream) {
        if self.refusing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(called) = TcpStream::connect(self.to) else {
            return;
        };
        self.carried.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        for (from, to) in [(&caller, &called), (&called, &caller)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            open.push(from.try_clone().unwrap());
            thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count) = from.read(&mut bytes) {
                    if count == 0 || to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
}
