#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif

/// What the generator itself took: it shares the machine with what it measures.
struct OwnCost: Encodable {
    let cpuSeconds: Double
    /// The most that was resident since the start of the process.
    let peakMegabytes: Double

    struct Meter {
        private let begin = Self.cpuSeconds

        func read() -> OwnCost {
            var usage = rusage()
            getrusage(Self.thisProcess, &usage)
            return OwnCost(cpuSeconds: (Self.cpuSeconds - begin).rounded(to: 3), peakMegabytes: (Double(usage.ru_maxrss) / 1024).rounded(to: 1))
        }

        #if canImport(Darwin)
            private static let thisProcess = RUSAGE_SELF
        #else
            private static let thisProcess = __rusage_who_t(RUSAGE_SELF.rawValue)  // Glibc declares an enumeration and takes a number
        #endif

        private static var cpuSeconds: Double {
            var time = timespec()
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        }
    }
}
