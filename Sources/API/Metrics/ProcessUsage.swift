import FoundationEssentials
import Glibc
import Wording

/// What the process takes of its machine, from `/proc`. What cannot be read now, for example for lack of a descriptor, is nil.
struct ProcessUsage: Sendable {
    /// Bytes.
    let residentMemory: Int?
    /// Bytes.
    let virtualMemory: Int?
    let openDescriptors: Int?
    let descriptorLimit: Int?
    /// Seconds of all threads, in user mode and in the kernel.
    let processorTime: Double?
    /// Seconds since 1970.
    let startTime: Double?

    init() {
        let pages = Self.text("/proc/self/statm")?.split(separator: " ").compactMap { Int($0) } ?? []
        let pageSize = sysconf(Int32(_SC_PAGESIZE))
        virtualMemory = pages.count > 1 ? pages[0] * pageSize : nil
        residentMemory = pages.count > 1 ? pages[1] * pageSize : nil
        openDescriptors = Self.countDescriptors()
        var limit = rlimit()
        descriptorLimit = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? Int(clamping: limit.rlim_cur) : nil
        var usage = rusage()
        processorTime = getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 ? usage.ru_utime.seconds + usage.ru_stime.seconds : nil
        startTime = Self.startTime
    }

    private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

    private static func countDescriptors() -> Int? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            if entry.pointee.d_name.0 != CChar(bitPattern: UInt8(ascii: ".")) { count += 1 }
        }
        return count - 1  // the one that counts
    }

    /// Field 22 of `/proc/self/stat` is in ticks since the machine started. Fields are counted from behind the name in
    /// parentheses, which may hold anything.
    private static let startTime: Double? = {
        guard let fields = text("/proc/self/stat").flatMap({ text in text.lastIndex(of: ")").map { text[$0...].split(separator: " ") } }),
            fields.count > 20, let ticks = Double(fields[20]),
            let line = text("/proc/stat")?.split(separator: "\n").first(where: { $0.hasPrefix("btime ") }), let boot = Double(line.dropFirst(6))
        else { return nil }
        return boot + ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }()
}

extension timeval {
    fileprivate var seconds: Double { Double(tv_sec) + Double(tv_usec) / 1e6 }
}
