import CMicroHTTPD
import Glibc

/// An epoll, and an eventfd in it by which the thread that waits is woken.
final class Epoll: Sendable {
    /// Stands for the wake-up; others take tokens of their own.
    private static let wakeToken: UInt64 = 0

    private let epoll: FileDescriptor
    private let event: FileDescriptor

    /// Nil when there are no descriptors left.
    init?() {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { return nil }
        self.epoll = FileDescriptor(adopting: epoll)
        let event = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard event >= 0 else { return nil }
        self.event = FileDescriptor(adopting: event)
        guard add(event, EPOLLIN.rawValue, token: Self.wakeToken) else { return nil }
    }

    /// - Parameter token: above 0.
    /// - Returns: false if the system refuses.
    func add(_ descriptor: Int32, _ events: UInt32, token: UInt64) -> Bool {
        var event = epoll_event(events: events, data: epoll_data_t(u64: token))
        return epoll_ctl(epoll.raw, EPOLL_CTL_ADD, descriptor, &event) == 0
    }

    /// Waits for other events of a descriptor that is in here, also if it was reported once.
    func change(_ descriptor: Int32, _ events: UInt32, token: UInt64) {
        var event = epoll_event(events: events, data: epoll_data_t(u64: token))
        _ = epoll_ctl(epoll.raw, EPOLL_CTL_MOD, descriptor, &event)
    }

    func remove(_ descriptor: Int32) {
        var event = epoll_event()  // "ignored and can be NULL", epoll_ctl(2)
        _ = epoll_ctl(epoll.raw, EPOLL_CTL_DEL, descriptor, &event)
    }

    /// Ends a `wait`, the present one or else the next. Any thread.
    func wake() {
        _ = eventfd_write(event.raw, 1)
    }

    /// Waits until something happens, and calls `handle` with the token of each descriptor on which it does, and what.
    ///
    /// - Parameters:
    ///   - timeout: in milliseconds; -1 waits as long as it takes.
    ///   - events: room for those of one call.
    func wait(_ timeout: Int32, _ events: inout [epoll_event], _ handle: (UInt64, _ events: UInt32) -> Void) {
        let count = epoll_wait(epoll.raw, &events, Int32(events.count), timeout)
        for event in events.prefix(Int(max(0, count))) {
            let token = event.data.u64
            if token == Self.wakeToken {
                var value: eventfd_t = 0
                eventfd_read(self.event.raw, &value)
            } else {
                handle(token, event.events)
            }
        }
    }
}
