import OrderedCollections
import OrderedJSON
import Testing

@testable import Bridge

@Suite struct IdempotencyTests {
    /// A short form of what a claim gave.
    private func claim(_ keys: IdempotencyKeys, _ key: String = "k", _ digest: UInt8 = 1, after time: Duration = .zero) async throws -> String {
        switch try await keys.claim(key, digest: [digest], now: start + time) {
        case .granted: "granted"
        case .busy: "busy"
        case .used(let job, let isSame): "\(isSame ? "same" : "other") \(job.map { $0 == self.job ? "job" : "\($0)" } ?? "none")"
        }
    }

    private let start = ContinuousClock.now
    private let job = JobID()

    @Test func aKeyIsGrantedOnce() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        #expect(try await [claim(keys), claim(keys), claim(keys, "k", 2)] == ["granted", "busy", "busy"])
        keys.settle("k", job: job)
        #expect(try await [claim(keys), claim(keys, "k", 2), claim(keys, "l")] == ["same job", "other job", "granted"])
    }

    @Test("Whoever finds a key busy can wait for what comes of it", arguments: [true, false])
    func outcome(isSettled: Bool) async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        await keys.waitForOutcome(of: "k")
        #expect(try await claim(keys) == "granted")
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    var found = try await claim(keys)
                    while found == "busy" {
                        await keys.waitForOutcome(of: "k")
                        found = try await claim(keys)
                    }
                    if found == "granted" { keys.settle("k", job: job) }
                    return found
                }
            }
            if isSettled { keys.settle("k", job: job) } else { keys.release("k") }
            let found = try await group.reduce(into: []) { $0.append($1) }.sorted()
            #expect(found == (isSettled ? [] : ["granted"]) + Array(repeating: "same job", count: isSettled ? 8 : 7))
        }
    }

    @Test func whatMakesNoJobUsesItsKeyUpAllTheSame() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        #expect(try await claim(keys) == "granted")
        try await keys.settle("k", digest: [1])
        #expect(try await [claim(keys), claim(keys, "k", 2)] == ["same none", "other none"])
    }

    @Test func aReleasedKeyIsFreeForAnything() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        #expect(try await claim(keys) == "granted")
        keys.release("k")
        #expect(try await [claim(keys, "k", 2), claim(keys, "k", 2)] == ["granted", "busy"])
    }

    @Test func operationsHaveTheirOwnKeys() async throws {
        let (jobs, uploads) = (IdempotencyKeys(.job, store: nil), IdempotencyKeys(.upload, store: nil))
        #expect(try await [claim(jobs), claim(uploads)] == ["granted", "granted"])
    }

    @Test func aKeyLivesForADayFromItsLastClaim() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        #expect(try await claim(keys) == "granted")
        keys.release("k")
        #expect(try await claim(keys, after: .seconds(3600)) == "granted")
        keys.settle("k", job: job)
        #expect(try await claim(keys, after: .seconds(24 * 3600)) == "same job")
        #expect(try await claim(keys, after: .seconds(25 * 3600 - 1)) == "same job")
        #expect(try await claim(keys, after: .seconds(25 * 3600)) == "granted")
    }

    @Test("What counts as the same submission", arguments: [
        ("{}", true), (#"{"extra": {"api_key_comfy_org": "k"}}"#, true), (#"{"priority": 1}"#, false), (#"{"timeout": 1}"#, false), (#"{"timeout": 0.5}"#, false),
        (#"{"partial": true}"#, false), (#"{"metadata": {}}"#, false), (#"{"metadata": {"a": 1}}"#, false), (#"{"width": 16}"#, false), (#"{"blocks": true}"#, true),
    ])
    func digest(_ change: String, _ isSame: Bool) throws {
        let change = try JSON(parsing: change)
        func submission(_ change: JSON) throws -> Submission {
            let graph: JSON = ["1": ["class_type": "EmptyImage", "inputs": ["width": change["width"] ?? 8]]]
            var options = Submission.Options()
            options.priority = change["priority"]?.int ?? 0
            options.timeout = change["timeout"]?.double.map { .seconds($0) }
            options.allowsPartial = change["partial"]?.bool ?? false
            options.failsWhenUnreachable = change["blocks"]?.bool ?? false
            return Submission(
                workflow: try Workflow(checking: graph), outputNodes: [], extraData: change["extra"]?.object ?? [:], metadata: change["metadata"]?.object,
                options: options)
        }
        #expect(try (submission(change).digest == submission([:]).digest) == isSame)
    }
}
