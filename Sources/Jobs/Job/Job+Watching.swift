import Synchronization

/// What viewers do: they come, read on from where they are, and go.
extension Job {
    /// Where a viewer begins.
    package enum Start: Sendable {
        /// With a picture of the present.
        case snapshot
        /// After the replayable event with this id.
        case after(id: UInt64)
    }

    /// What a new viewer is sent before the live events.
    package struct Opening: Sendable {
        /// Set when events that the viewer asked for are gone, or never were; a snapshot follows then.
        package internal(set) var reset: Bool
        package internal(set) var snapshot: [JobEvent]
        /// The newest id that the snapshot covers; nil when the viewer continues after its own id.
        package internal(set) var coveredID: UInt64?
        package internal(set) var cursor: UInt64
        package let token: UInt64
    }

    /// Registers a viewer; nil when it has seen all of a finished job. Snapshot and registration are one step: no event
    /// falls between them, none comes twice.
    ///
    /// - Parameter wake: called, from any thread and without the lock of the job, whenever there may be more events. It must
    ///   not call back into the job or the queue.
    package func watch(from start: Start, wake: @escaping @Sendable () -> Void) -> Opening? {
        // From here on the queue tells of every move; of those before, the viewer is told now.
        let queue = state.withLock { $0.queue }
        if let place = queue?.watch(self) { moved(to: place) }
        let (opening, request) = state.withLock { $0.watch(from: start, firstArchivedID: archive == nil ? nil : firstArchivedID, wake) }
        if opening == nil { queue?.unwatch(self) }
        ask(request)
        return opening
    }

    package func unwatch(_ token: UInt64) {
        let (isGone, queue) = state.withLock { ($0.audience.removeViewer(token), $0.queue) }
        if isGone { queue?.unwatch(self) }
    }

    /// The next events after a cursor, in order, at most `limit`; nil when they are only in the archive.
    package func events(after cursor: UInt64, limit: Int) -> [LoggedEvent]? {
        let (events, lastID) = state.withLock { ($0.record.log.events(after: cursor, limit: limit), $0.record.log.visibleID) }
        return archive != nil && events.isEmpty && cursor < lastID ? nil : events
    }

    /// The same from the archive, given to `completion` once they are read; nil when they cannot be (any more). See `EventArchive`.
    package func readArchive(after cursor: UInt64, limit: Int, _ completion: @escaping @Sendable ([LoggedEvent]?) -> Void) {
        guard let archive else { return completion(nil) }
        archive.read(eventsOf: id, after: cursor, limit: limit) { events in
            // The outputs that the job has are those, whose hashes may become known.
            completion(
                events?.map { logged in
                    guard case .output(let stored) = logged.event, let id = logged.id, let output = self.output(stored.asset.id) else { return logged }
                    return LoggedEvent(id: id, event: .output(output), date: logged.date)
                })
        }
    }
}
