import DequeModule

/// Where a job stands in the queue.
package struct QueuePlace: Sendable, Equatable {
    /// How many jobs are before it.
    package let position: Int
    /// Rises with every change of the queue, so that a job that is told of two places knows the newer one.
    let version: UInt64
}

/// The jobs that wait, in their order, as a value. A position is looked for when somebody asks: it is the index of the job's key among the sorted ones, found in
/// O(log n). Adding or removing a job moves the entries of the shorter side of it, 32 bytes each, and touches no job; only those that are watched
/// are named to be told of their new places, each in O(log n).
struct WaitingLine: Sendable {
    /// Whom a change concerns, to be told (`Job.moved`) once nothing is locked.
    typealias Moves = [(job: Job, place: QueuePlace)]

    /// The order of the line: higher priorities first, of equal ones the lower number.
    fileprivate struct Key: Comparable, Sendable {
        let priority: Int
        let number: Int64

        static func < (left: Key, right: Key) -> Bool {
            left.priority == right.priority ? left.number < right.number : left.priority > right.priority
        }
    }

    fileprivate struct Entry: Sendable {
        let key: Key
        let job: Job
    }

    private var entries: Deque<Entry> = []
    private var keys: [JobID: Key] = [:]
    /// How many viewers each job has, whether it waits or not.
    private var viewers: [JobID: Int] = [:]
    /// Those that wait and have viewers, in the same order.
    private var watched: Deque<Entry> = []
    /// The numbers of the last one that came, and of the last one that was put before the others.
    private var lastNumber: Int64 = 0
    private var firstNumber: Int64 = 0
    private var version: UInt64 = 0

    var count: Int { entries.count }
    var jobs: [Job] { entries.map(\.job) }
    func firstIndex(where isWanted: (Job) -> Bool) -> Int? { entries.firstIndex { isWanted($0.job) } }

    /// - Parameter isNext: before those of its priority instead of behind them.
    mutating func insert(_ job: Job, isNext: Bool = false) -> Moves {
        if isNext { firstNumber -= 1 } else { lastNumber += 1 }
        let entry = Entry(key: Key(priority: job.priority, number: isNext ? firstNumber : lastNumber), job: job)
        entries.insert(entry, at: entries.index(of: entry.key))
        keys[job.id] = entry.key
        if viewers[job.id] != nil { watched.insert(entry, at: watched.index(of: entry.key)) }
        return changed(from: entry.key)
    }

    /// - Returns: also the job's last place.
    mutating func remove(at index: Int) -> (job: Job, place: QueuePlace, Moves) {
        let entry = entries.remove(at: index)
        keys[entry.job.id] = nil
        removeWatched(entry.key)
        let moves = changed(from: entry.key)
        return (entry.job, QueuePlace(position: index, version: version), moves)
    }

    /// - Returns: nil when it does not wait.
    mutating func remove(_ job: Job) -> Moves? {
        guard let key = keys.removeValue(forKey: job.id) else { return nil }
        entries.remove(at: entries.index(of: key))
        removeWatched(key)
        return changed(from: key)
    }

    mutating func removeAll(where isUnwanted: (Job) -> Bool) -> ([Job], Moves) {
        let removed = entries.filter { isUnwanted($0.job) }
        guard let first = removed.first else { return ([], []) }
        let ids = Set(removed.lazy.map(\.job.id))
        entries.removeAll { ids.contains($0.job.id) }
        watched.removeAll { ids.contains($0.job.id) }
        for id in ids { keys[id] = nil }
        return (removed.map(\.job), changed(from: first.key))
    }

    /// Nil when the job does not wait.
    func place(of job: Job) -> QueuePlace? {
        keys[job.id].map { QueuePlace(position: entries.index(of: $0), version: version) }
    }

    /// From here on the job is told when it moves, until `unwatch` was called as often.
    mutating func watch(_ job: Job) -> QueuePlace? {
        viewers[job.id, default: 0] += 1
        guard let key = keys[job.id] else { return nil }
        if viewers[job.id] == 1 { watched.insert(Entry(key: key, job: job), at: watched.index(of: key)) }
        return place(of: job)
    }

    mutating func unwatch(_ job: Job) {
        guard let count = viewers[job.id] else { return }
        viewers[job.id] = count == 1 ? nil : count - 1
        if count == 1, let key = keys[job.id] { removeWatched(key) }
    }

    private mutating func removeWatched(_ key: Key) {
        let index = watched.index(of: key)
        if index < watched.count, watched[index].key == key { watched.remove(at: index) }
    }

    /// The moves of those that are watched, of what stands here and behind it.
    private mutating func changed(from key: Key) -> Moves {
        version += 1
        return watched[watched.index(of: key)...].map { ($0.job, QueuePlace(position: entries.index(of: $0.key), version: version)) }
    }
}

extension Deque<WaitingLine.Entry> {
    /// Where this key is, or would be.
    fileprivate func index(of key: WaitingLine.Key) -> Int { partitioningIndex { $0.key >= key } }
}
