import Foundation
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workflow

/// What is written is read again as it was, by another opening of the same folder.
@Suite(.timeLimit(.minutes(5))) struct RoundTripTests {
    private static let oddStrings = ["", "x", "\u{0}", "a\u{0}b", "\"\\\n\r\t", "ÄÖ 画像 🎨", "'; DROP TABLE jobs; --", "\u{202E}", String(repeating: "é", count: 250)]

    // MARK: Submissions

    @Test(
        "Workflows keep every digit and the order of their members",
        arguments: [
            #"{"3":{"class_type":"A","inputs":{"seed":18446744073709551615,"cfg":7.0,"z":1.50,"a":-0,"e":1E+2}},"1":{"class_type":"B","inputs":{}}}"#,
            #"{"ä\u0000\"":{"class_type":"画","inputs":{"t":"'; DROP TABLE jobs; --","n":null,"l":[["1",0],{"k":[]}]},"_meta":{"title":"T"},"extra":true}}"#,
            #"{"1":{"class_type":"A","inputs":{"big":123456789012345678901234567890.000000000000000000001}}}"#,
        ]) func workflow(_ text: String) async throws
    {
        try await withTemporaryFolder { folder in
            let workflow = try Workflow(checking: try JSON(parsing: text))
            var id: JobID?
            try await withStorage(folder) { storage, _ in id = try await storage.insert(Submission(workflow: workflow, outputNodes: [])).id }
            try await withStorage(folder) { storage, _ in
                let job = try #require(try await storage.jobs.restore().first)
                #expect(job.id == id)
                #expect(job.submission.workflow.text == workflow.text)
                #expect(job.submission.workflow.nodes.keys == workflow.nodes.keys)
                job.finish(.canceled)
                await storage.jobs.record(job)
                let text = try await storage.jobs.workflow(of: job)
                #expect(job.submission.workflow.text.isEmpty && text == workflow.text, "an ended job leaves its workflow on disk")
            }
        }
    }

    @Test("What else a caller says survives", arguments: oddStrings) func submission(_ odd: String) async throws {
        try await withTemporaryFolder { folder in
            var options = Submission.Options()
            options.timeout = .nanoseconds(1_234_567_890_123)
            options.allowsPartial = true
            options.priority = -100
            let metadata: JSONObject = [odd: .string(odd), "n": .number(JSONNumber(literal: "18446744073709551615")), "z": nil, "a": 1]
            let graph: JSON = [odd + "n": ["class_type": "A", "inputs": [:]]]
            let created = Date(timeIntervalSinceReferenceDate: 812_345_678.123_456_7)
            try await withStorage(folder) { storage, _ in
                let blob = try await storage.blobs.keep([1, 2, 3])
                let upload = Asset(blob: blob, filePath: "in/a.png", contentType: "image/png")
                try await storage.assets.insert(upload)
                _ = try await storage.insert(
                    Submission(
                        workflow: try Workflow(checking: graph), outputNodes: [Name(odd), "2"],
                        inputs: [.init(place: .input(node: Name(odd), name: Name(odd)), asset: upload), .init(place: .reference(id: Name(upload.id)), asset: upload)],
                        extraData: ["extra_pnginfo": ["workflow": [odd: .string(odd)]]], metadata: metadata, options: options), createdAt: created)
            }
            try await withStorage(folder) { storage, _ in
                let job = try #require(try await storage.jobs.restore().first)
                let submission = job.submission
                #expect(job.createdAt == created && job.priority == -100 && job.snapshot.statusChangedAt == created)
                #expect(submission.metadata == metadata && submission.metadata?.keys == metadata.keys)
                #expect(submission.outputNodes == [Name(odd), "2"])
                #expect(submission.options.timeout == options.timeout && submission.options.allowsPartial)
                #expect(job.attach(.blocks(endsJob: true)) && !job.callerLeft() && !job.failsWhenUnreachable, "who blocked for it before is gone, and it is not")
                #expect(submission.extraData == ["extra_pnginfo": ["workflow": [odd: .string(odd)]]] && !submission.lacksCredentials)
                #expect(submission.inputs.map(\.place) == [.input(node: Name(odd), name: Name(odd)), .reference(id: Name(submission.inputs[0].asset.id))])
                #expect(submission.inputs.allSatisfy { $0.asset.filePath == "in/a.png" })
                let used = try await storage.jobs.assetsInUse()
                #expect(used == [submission.inputs[0].asset.id])
            }
        }
    }

    @Test func credentialsAreInNoFile() async throws {
        try await withTemporaryFolder { folder in
            let secret = "sk-marker-77c1"
            try await withStorage(folder) { storage, _ in
                let sample = try Submission.sample()
                let job = try await storage.insert(
                    Submission(
                        workflow: sample.workflow, outputNodes: [], extraData: ["api_key_comfy_org": .string(secret), "auth_token_comfy_org": .string(secret)]))
                job.started()
                await storage.jobs.record(job)
                // Before anything is moved from the log into the file, and afterwards.
                try expectNowhere(secret, in: folder)
            }
            try expectNowhere(secret, in: folder)
            try await withStorage(folder) { storage, _ in
                let job = try #require(try await storage.jobs.restore().first)
                #expect(job.submission.lacksCredentials && job.submission.extraData.isEmpty)
            }
        }
    }

    // MARK: Jobs

    @Test("Every kind of event", arguments: oddStrings) func events(_ odd: String) async throws {
        try await withTemporaryFolder { folder in
            let fault = WorkflowFault(node: odd, field: nil, reason: odd, classType: odd, message: odd)
            var texts: [String] = []
            var id = JobID()
            try await withStorage(folder) { storage, _ in
                let job = try await storage.insert(try .sample())
                id = job.id
                job.started()
                for state in [NodeEvent.State.running, .cached, .finished] {
                    job.publish(.node(NodeEvent(node: odd, displayNode: state == .cached ? odd : "d" + odd, classType: odd, title: odd, state: state)))
                }
                for level in [LogEntry.Level.info, .warning, .error] { job.publish(.log(LogEntry(level, odd, node: level == .info ? nil : odd))) }
                job.add(Output(job: id, node: odd, name: odd, kind: .text, contentType: "text/plain", isTemporary: true, blob: Blob(text: odd)))
                job.requestCancel()
                job.finish(.failed, error: JobError(code: .invalidWorkflow, message: odd, node: odd, classType: nil, faults: [fault, fault]))
                await storage.jobs.record(job)
                texts = try #require(job.events(after: 0, limit: 100)).map(\.event.text)
                #expect(texts.count == 11)
            }
            try await withStorage(folder) { storage, _ in
                let job = try #require(try await storage.jobs.job(id))
                let events = try #require(await job.read(after: 0, limit: 100))
                #expect(events.map(\.event.text) == texts)
                #expect(events.map(\.id) == (1...11).map { UInt64($0) })
                #expect(job.snapshot.error == JobError(code: .invalidWorkflow, message: odd, node: odd, classType: nil, faults: [fault, fault]))
                // In pages, to the end, and nothing beyond.
                let page = try #require(await job.read(after: 4, limit: 3))
                #expect(page.map(\.id) == [5, 6, 7])
                #expect(job.events(after: 11, limit: 3)?.isEmpty == true)
            }
        }
    }

    @Test func anEndedJobIsReadWithEverythingThatIsKnownOfIt() async throws {
        try await withTemporaryFolder { folder in
            var before: Job.Snapshot?
            var id = JobID()
            try await withStorage(folder) { storage, disk in
                let job = try await storage.insert(try .sample(metadata: ["a": "b"]))
                id = job.id
                job.assign(to: "http://127.0.0.1:8188")
                job.endAttempt { attempts in
                    (attempts.lost, attempts.kills, attempts.undelivered) = (1, 1, 1)
                    attempts.failedDevices.insert("http://127.0.0.1:8188")
                }
                job.returned()
                job.assign(to: "https://gpu.example:8443/base")
                job.started()
                let file = ComfyFile(endpoint: "https://gpu.example:8443/base", filename: "a \u{0}.png", subfolder: "b/c", type: "temp")
                job.add(
                    Output(
                        job: id, node: "9", name: "a \u{0}.png", kind: .image, contentType: "image/png", isTemporary: true,
                        blob: Blob(source: .comfyUI(file), size: nil)))
                job.add(Output(job: id, node: "10", name: "c.png", kind: .image, contentType: "image/png", blob: try await storage.blobs.keep([1, 2, 3])))
                job.add(Output(job: id, node: "11", name: "t.txt", kind: .text, contentType: "text/plain", blob: Blob(text: "a\u{0}b")))
                job.markReusedOutputs()
                job.addOther(["z": 1.50, "a": [nil, "x"]], node: "5")
                job.publish(.progress(JobProgress(value: 0.3, nodesDone: 1, nodesTotal: 3, currentNode: "3", currentClass: "K", step: 4, steps: 20, message: "m")))
                job.finish(.succeeded)
                await storage.jobs.record(job)
                before = job.snapshot
                let rows = try await disk.rows("SELECT assignment FROM jobs")
                #expect(rows == [["assignment": "https://gpu.example:8443/base"]])
            }
            try await withStorage(folder) { storage, _ in
                let old = try #require(before)
                let job = try #require(try await storage.jobs.job(id))
                let new = job.snapshot
                #expect((new.status, new.statusChangedAt, new.startedAt) == (old.status, old.statusChangedAt, old.startedAt))
                #expect(new.completedAt == old.completedAt && new.progress == old.progress && new.progress?.steps == 20)
                #expect(new.hasReusedOutputs && new.otherOutputs == old.otherOutputs && new.otherOutputs["5"]?["z"]?.text == "1.5")
                #expect(new.outputs.map { $0.record(isComplete: true) } == old.outputs.map { $0.record(isComplete: true) })
                #expect(new.outputs.map(\.asset.createdAt) == old.outputs.map(\.asset.createdAt))
                let kept = await storage.blobs.retain(ContentHash(of: [1, 2, 3] as [UInt8]))
                #expect(new.outputs[1].asset.blob === kept, "its bytes are those of the blob store")
                #expect(job.metadata == ["a": "b"] && job.attempts == old.attempts)
                #expect(job.attempts == Attempts(lost: 1, kills: 1, undelivered: 1, failedDevices: ["http://127.0.0.1:8188"], eventsBefore: 1))
                // Read again, it is the same object, and so are its outputs, whose hash may become known.
                let again = try await storage.jobs.job(id)
                #expect(again === job)
                let asset = try #require(try await storage.assets.asset(new.outputs[0].asset.id))
                #expect(asset.blob === new.outputs[0].asset.blob && asset.job == id)
                asset.blob.hash = ContentHash(of: [9] as [UInt8])
                try await storage.assets.recordHash(of: asset)
                let found = try await storage.assets.asset(withHash: ContentHash(of: [9] as [UInt8]))
                #expect(found?.id == asset.id)
            }
        }
    }

    @Test func aLostRunTakesItsOutputsWithIt() async throws {
        try await withTemporaryFolder { folder in
            func output(_ job: Job, _ name: String) -> Output { Output(job: job.id, node: "1", name: name, kind: .text, contentType: "text/plain", blob: Blob(text: name)) }
            try await withStorage(folder) { storage, _ in
                let job = try await storage.insert(try .sample())
                job.add(output(job, "lost 1"))
                job.add(output(job, "lost 2"))
                await storage.jobs.record(job)
                job.returned()
                job.add(output(job, "kept"))
                await storage.jobs.record(job)
            }
            try await withStorage(folder) { storage, disk in
                let job = try #require(try await storage.jobs.restore().first)
                #expect(job.outputs.map(\.name) == ["kept"])
                let found1 = try await disk.count("assets")
                #expect(found1 == 1)
                let replay = try #require(job.events(after: 0, limit: 10))
                #expect(replay.map(\.event.text).filter { $0.contains("lost") }.count == 2, "what was told is told again")
                // Events go on where they ended.
                job.finish(.succeeded)
                await storage.jobs.record(job)
                #expect(try #require(job.events(after: 0, limit: 10)).map(\.id) == [1, 2, 3, 4, 5])
            }
        }
    }

    // MARK: Assets, keys, identities

    @Test func uploads() async throws {
        try await withTemporaryFolder { folder in
            let created = Date(timeIntervalSinceReferenceDate: 812_345_678.123_456_7)
            var ids: [String] = []
            try await withStorage(folder) { storage, _ in
                for (path, bytes, tags, expiry) in [("d/ä.png", [1], ["x", "\u{0}"], 10.0), ("d/ä.png", [2], [], nil), ("b", [1], [], 20)] as [(String, [UInt8], [String], Double?)] {
                    let asset = Asset(
                        blob: try await storage.blobs.keep(bytes), filePath: path, contentType: "image/png; x=\"y\"", tags: tags, createdAt: created,
                        expiresAt: expiry.map { created.addingTimeInterval($0) })
                    try await storage.assets.insert(asset)
                    ids.append(asset.id)
                }
            }
            try await withStorage(folder) { storage, _ in
                let assets = storage.assets
                let first = try #require(try await assets.asset(ids[0]))
                #expect(first.filePath == "d/ä.png" && first.contentType == "image/png; x=\"y\"" && first.tags == ["x", "\u{0}"] && first.job == nil)
                #expect(first.createdAt == created && first.expiresAt == created.addingTimeInterval(10) && first.blob.size == 1)
                let newest = try await assets.upload(at: "d/ä.png")
                #expect(newest?.id == ids[1])
                let same = try await assets.upload(like: first)
                #expect(same?.id == ids[0])
                let third = try #require(try await assets.asset(ids[2]))
                #expect(first.blob === third.blob)
                let expired = try await assets.expired(before: created.addingTimeInterval(15))
                #expect(expired.map(\.id) == [ids[0]])
                var renewed = first
                renewed.expiresAt = created.addingTimeInterval(100)
                try await assets.insert(renewed)
                let later = try await assets.expired(before: created.addingTimeInterval(50))
                #expect(later.map(\.id) == [ids[2]])
                let removed = try await assets.remove(ids[0])
                #expect(removed?.expiresAt == renewed.expiresAt)
                let gone = try await assets.remove(ids[0])
                #expect(gone == nil)
                // Two assets were over these bytes, and one is left.
                let hash = ContentHash(of: [1] as [UInt8])
                await storage.blobs.release(first.blob)
                let stays = await storage.blobs.retain(hash)
                #expect(stays != nil)
                await storage.blobs.release(third.blob)
                await storage.blobs.release(third.blob)
                let goes = await storage.blobs.retain(hash)
                #expect(goes == nil)
            }
        }
    }

    @Test func whatWasArrivingOrBelongsToNobodyIsRemoved() async throws {
        try await withTemporaryFolder { folder in
            try await withStorage(folder) { storage, _ in
                let kept = try await storage.blobs.keep([1])
                try await storage.assets.insert(Asset(blob: kept, filePath: "a", contentType: "x/y"))
                _ = try await storage.blobs.keep([2])  // nobody's: the bridge ended before it was an asset
            }
            let part = folder + "/blobs/x.part"
            #expect(FileManager.default.createFile(atPath: part, contents: Data([3])))
            try await withStorage(folder) { storage, _ in
                #expect(!FileManager.default.fileExists(atPath: part))
                try await storage.blobs.removeOrphans()
                let files = FileManager.default.subpaths(atPath: folder + "/blobs")?.filter { $0.contains("/") }
                #expect(files?.count == 1)
                let known = await storage.blobs.retain(ContentHash(of: [1] as [UInt8]))
                #expect(known != nil)
            }
        }
    }

    @Test func keysOfOneOperationAreNotThoseOfAnother() async throws {
        try await withTemporaryFolder { folder in
            var id = JobID()
            try await withStorage(folder) { storage, _ in
                id = try await storage.insert(try .sample(), key: UsedKey(operation: .job, key: "k", digest: [1, 0, 255])).id
                try await IdempotencyKeys(.upload, store: storage.keys).settle("u", digest: [7], made: "an asset")
            }
            try await withStorage(folder) { storage, disk in
                func claim(_ operation: UsedKey.Operation, _ key: String, _ digest: [UInt8]) async throws -> String {
                    switch try await IdempotencyKeys(operation, store: storage.keys).claim(key, digest: digest) {
                    case .granted: "granted"
                    case .busy: "busy"
                    case .used(let use, let isSame): "\(isSame ? "same" : "other") \(use.made == id.description ? "job" : use.made ?? "none")"
                    }
                }
                let found2 = try await claim(.job, "k", [1, 0, 255])
                #expect(found2 == "same job")
                let found3 = try await claim(.job, "k", [1])
                #expect(found3 == "other job")
                let found4 = try await claim(.upload, "k", [1])
                #expect(found4 == "granted")
                let found5 = try await claim(.upload, "u", [7])
                #expect(found5 == "same an asset")
                let found6 = try await claim(.job, "u", [7])
                #expect(found6 == "granted")
                try await disk.execute("UPDATE idempotency_keys SET date = date - 86401 WHERE key = 'k'")
                let found7 = try await claim(.job, "k", [1, 0, 255])
                #expect(found7 == "granted", "a day is over by the clock on the wall")
                try await disk.keys.remove(before: Date(timeIntervalSinceNow: -86_400))
                let found8 = try await disk.count("idempotency_keys")
                #expect(found8 == 1)
            }
        }
    }

    @Test("Why a job is canceled survives, also before it is", arguments: [Job.Cancellation.callerLeft, .requested], [false, true])
    func cancellation(_ cause: Job.Cancellation, _ isOver: Bool) async throws {
        try await withTemporaryFolder { folder in
            var id = JobID()
            try await withStorage(folder) { storage, _ in
                let job = try await storage.insert(try .sample())
                id = job.id
                job.attach(.blocks(endsJob: true))
                #expect(job.callerLeft())
                if cause == .requested { job.cancellationRequested() }
                job.requestCancel()
                if isOver { job.finish(.canceled, error: .canceledByCaller) }
                await storage.jobs.record(job)
                #expect(job.releasesKey == (cause == .callerLeft))
            }
            try await withStorage(folder) { storage, _ in
                let found = isOver ? try await storage.jobs.job(id) : try await storage.jobs.restore().first
                let job = try #require(found)
                #expect(job.snapshot.cancellation == cause && job.snapshot.status == (isOver ? .canceled : .canceling))
                #expect(job.releasesKey == (cause == .callerLeft))
            }
        }
    }

    @Test func workersKeepTheirIdentity() async throws {
        try await withTemporaryFolder { folder in
            var ids: [String] = []
            for _ in 0..<2 {
                try await withStorage(folder) { storage, _ in
                    ids += [try storage.identities.clientID(for: "http://a:8188"), try storage.identities.clientID(for: "http://b:8188")]
                }
            }
            #expect(ids[0] == ids[2] && ids[1] == ids[3] && ids[0] != ids[1])
            #expect(try WorkerIdentities(database: nil).clientID(for: "http://a:8188") != ids[0])
        }
    }
}
