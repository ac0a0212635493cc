import Foundation
import GRDB
import Synchronization
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport

@Suite(.timeLimit(.minutes(5))) struct GroupCommitTests {
    private struct Refused: Error {}

    @Test("What waits goes into one transaction, in order, and one that fails fails alone", arguments: [nil, 0, 2, 4] as [Int?])
    func order(_ failing: Int?) async throws {
        try await withStorage { _, disk in
            try await disk.execute("CREATE TABLE t (n INTEGER)")
            let finished = Mutex<[(Int, Bool)]>([])
            let begins = Counter(), commits = Counter()
            let (done, finish) = AsyncStream.makeStream(of: Void.self)
            try await whileWriterIsHeld(disk.database) {
                for number in 0..<5 {
                    disk.database.add(
                        perform: { db in
                            if number == 0 {
                                begins.add()
                                db.afterNextTransaction { _ in commits.add() }
                            }
                            try db.execute(sql: "INSERT INTO t VALUES (?)", arguments: [number])
                            if number == failing { throw Refused() }
                        },
                        finish: { error in
                            finished.withLock { $0.append((number, error == nil)) }
                            if number == 4 { finish.finish() }
                        })
                }
                #expect(finished.withLock { $0.isEmpty })
            }
            for await _ in done {}
            #expect(finished.withLock { $0.map(\.0) } == [0, 1, 2, 3, 4])
            #expect(finished.withLock { $0.filter { !$0.1 }.map(\.0) } == [failing].compactMap(\.self))
            let numbers = try await disk.database.read { db in try Int.fetchAll(db, sql: "SELECT n FROM t ORDER BY rowid") }
            #expect(numbers == [0, 1, 2, 3, 4].filter { $0 != failing })
            #expect(begins.value == (failing == nil ? 1 : 2))
            #expect(commits.value == (failing == 0 ? 0 : 1))
        }
    }

    @Test func whatNobodyWaitsForIsWrittenWithTheNextThatSomebodyDoes() async throws {
        try await withStorage { _, disk in
            let commits = Counter()
            let order = Mutex<[Int]>([])
            for number in 0..<3 {
                disk.database.add(
                    isAwaited: false,
                    perform: { db in
                        if number == 0 { db.afterNextTransaction { _ in commits.add() } }
                        order.withLock { $0.append(number) }
                    },
                    finish: { _ in })
            }
            let count = try await disk.database.write { db in
                order.withLock { $0.append(3) }
                return order.withLock { $0.count }
            }
            #expect(count == 4 && order.withLock { $0 } == [0, 1, 2, 3])
            #expect(commits.value == 1)
        }
    }

    @Test func whatNobodyWaitsForIsWrittenSoonAllTheSame() async throws {
        try await withStorage { _, disk in
            await withCheckedContinuation { written in
                disk.database.add(isAwaited: false, perform: { _ in }, finish: { _ in written.resume() })
            }
        }
    }

    @Test func whatNobodyWaitsForIsWrittenBeforeTheEnd() async throws {
        try await withTemporaryFolder { folder in
            try await withStorage(folder) { _, disk in
                disk.database.add(isAwaited: false, perform: { db in try db.execute(sql: "INSERT INTO workers VALUES ('last', 'x')") }, finish: { _ in })
            }
            try await withStorage(folder) { _, disk in
                let found = try await disk.count("workers")
                #expect(found == 1)
            }
        }
    }

    @Test func whoWritesAloneWritesAtOnceAndMayReadWhatItWrote() async throws {
        try await withStorage { _, disk in
            for number in 1...3 {
                let stored = try await disk.database.write { db in
                    try db.execute(sql: "INSERT INTO workers VALUES (?, 'x')", arguments: ["\(number)"])
                    return number
                }
                #expect(stored == number)
                let found1 = try await disk.count("workers")
                #expect(found1 == number)
            }
        }
    }

    @Test func manyWritersLoseNothing() async throws {
        try await withStorage { _, disk in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<2000 {
                    group.addTask { try await disk.database.write { db in try db.execute(sql: "INSERT INTO workers VALUES (?, 'x')", arguments: ["\(number)"]) } }
                }
                try await group.waitForAll()
            }
            let found2 = try await disk.count("workers")
            #expect(found2 == 2000)
        }
    }

    @Test func afterTheEndNothingHangs() async throws {
        try await withTemporaryFolder { folder in
            var kept: Storage?
            try await withStorage(folder) { storage, _ in kept = storage }
            let storage = try #require(kept)
            await #expect(throws: (any Error).self) { _ = try await storage.insert(try .sample()) }
        }
    }
}
