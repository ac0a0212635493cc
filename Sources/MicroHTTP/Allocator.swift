import CMicroHTTPD
import Glibc

/// The C library's allocator, of which Swift's Glibc module shows only the half.
package enum Allocator {
    /// Keeps freed blocks of up to 4 MiB for the next one, and as much at the end of a heap, instead of giving each back to the system: the
    /// pieces of a download are fresh memory otherwise, in which every page is a fault. Bytes passed on from ComfyUI cost 0.6 s of processor
    /// time per GB with this and 0.8 s without, with the same resident memory. For the whole process; call it first.
    package static func keepsBulk() {
        let limit: Int32 = 4 << 20
        _ = mallopt(M_MMAP_THRESHOLD, limit)
        _ = mallopt(M_TRIM_THRESHOLD, limit)
    }

    /// As many heaps as processors, instead of eight times as many: threads come and go, and one that comes later begins a heap of its own while
    /// what the others gave back lies in theirs. For the whole process; call it first.
    package static func limitsHeaps() {
        _ = mallopt(M_ARENA_MAX, Int32(HTTPServer.Configuration.processorCount))
    }

    /// Gives the whole pages in `buffer`, whose content nobody needs, back to the system until they are written to again.
    static func giveBack(_ buffer: UnsafeMutableRawBufferPointer) {
        guard let base = buffer.baseAddress else { return }
        let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
        let first = (UInt(bitPattern: base) + page - 1) / page * page
        let end = (UInt(bitPattern: base) + UInt(buffer.count)) / page * page
        if first < end { madvise(UnsafeMutableRawPointer(bitPattern: first), Int(end - first), MADV_DONTNEED) }
    }
}
