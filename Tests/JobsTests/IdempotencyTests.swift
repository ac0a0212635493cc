import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import TestSupport
@testable import Workflow

@Suite struct IdempotencyTests {
    /// A short form of what a claim gave.
    private func claim(
        _ keys: IdempotencyKeys, _ key: String = "k", _ digest: UInt8 = 1, replacing released: JobID? = nil, after time: Duration = .zero
    ) async throws -> String {
        switch try await keys.claim(key, digest: [digest], replacing: released?.description, now: start + time) {
        case .granted: "granted"
        case .busy: "busy"
        case .used(let use, let isSame): "\(isSame ? "same" : "other") \(use.made == job.description ? "job" : use.made ?? "none")\(use.isReleased ? " released" : "")"
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
        try await keys.settle("k", digest: [1], made: "an asset")
        #expect(try await [claim(keys), claim(keys, "k", 2)] == ["same an asset", "other an asset"])
    }

    @Test func aKeyThatItsJobHasReleasedIsGrantedToOneOfThoseWhoSawThat() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        let next = JobID()
        #expect(try await claim(keys) == "granted")
        keys.settle("k", job: job)
        #expect(try await [claim(keys, replacing: next), claim(keys, "k", 2, replacing: job), claim(keys, replacing: job)] == ["same job", "granted", "busy"])
        keys.settle("k", job: next)
        #expect(try await [claim(keys, replacing: job), claim(keys, "k", 2)] == ["other \(next)", "same \(next)"])
    }

    @Test func aJobThatIsNotKeptAnyMoreLeavesWordWhetherItsKeyIsFree() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        let other = JobID()
        for (key, job) in [("k", job), ("l", other)] {
            #expect(try await claim(keys, key) == "granted")
            keys.settle(key, job: job)
        }
        keys.release(madeBy: [job.description])
        #expect(try await [claim(keys), claim(keys, "l"), claim(keys, replacing: job)] == ["same job released", "same \(other)", "granted"])
    }

    @Test(
        "Which ends of a job make its key free",
        arguments: [
            (.nodeExecutionError, false), (.outOfMemory, false), (.poison, false), (.timedOut, false), (.invalidOutput, false), (.deviceError, true), (.upstreamLost, true),
            (.upstreamStuck, true), (.upstreamUnreachable, true), (.upstreamError, true), (.insufficientStorage, true), (.credentialsLost, true), (.invalidWorkflow, true),
            (.missingAsset, true), (.payloadTooLarge, true),
        ] as [(JobError.Code, Bool)])
    func end(_ code: JobError.Code, _ isFree: Bool) throws {
        let job = Job(submission: try .sample())
        #expect(!job.releasesKey)
        job.finish(.failed, error: JobError(code: code, message: "m"))
        #expect(job.releasesKey == isFree)
        #expect(job.attach(.blocks(endsJob: true)) == !isFree)
    }

    @Test func aJobThatSucceededKeepsItsKey() throws {
        let job = Job(submission: try .sample())
        job.finish(.succeeded)
        #expect(!job.releasesKey && job.attach(.isPromised))
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

    @Test(
        "What counts as the same submission",
        arguments: [
            ("{}", true), (#"{"extra": {"api_key_comfy_org": "k"}}"#, true), (#"{"priority": 1}"#, false), (#"{"timeout": 1}"#, false), (#"{"timeout": 0.5}"#, false),
            (#"{"partial": true}"#, false), (#"{"metadata": {}}"#, false), (#"{"metadata": {"a": 1}}"#, false), (#"{"width": 16}"#, false),
        ])
    func digest(_ change: String, _ isSame: Bool) throws {
        let change = try JSON(parsing: change)
        func submission(_ change: JSON) throws -> Submission {
            let graph: JSON = ["1": ["class_type": "EmptyImage", "inputs": ["width": change["width"] ?? 8]]]
            var options = Submission.Options()
            options.priority = change["priority"]?.int ?? 0
            options.timeout = change["timeout"]?.double.map { .seconds($0) }
            options.allowsPartial = change["partial"]?.bool ?? false
            return Submission(
                workflow: try Workflow(checking: graph), outputNodes: [], extraData: change["extra"]?.object ?? [:], metadata: change["metadata"]?.object,
                options: options)
        }
        #expect(try (submission(change).digest == submission([:]).digest) == isSame)
    }
}
