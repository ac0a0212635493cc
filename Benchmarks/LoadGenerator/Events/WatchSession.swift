import Foundation
import NIOCore
import PreviewStamp

/// One `watch`, on the load loop.
actor WatchSession {
    struct Report: Encodable {
        let viewers: Int
        let slowViewers: Int
        let framesSent: Int
        /// Of the previews that viewers who read should have got.
        let deliveredShare: Double
        let latency: Latencies.Summary?
        let firstViewer: Latencies.Summary?
        let lastViewer: Latencies.Summary?
        /// Previews that viewers were told they would not get.
        let droppedTold: Int
        let events: Int
        let bytes: Int
        /// From the first preview to the end of the last stream.
        let seconds: Double
        let generator: OwnCost
    }

    private let options: Watch
    private let target: Target
    private let publish: Target?
    private let loop = LoadLoop.loop
    private let audience: Audience
    private var viewers: [Viewer] = []

    nonisolated var unownedExecutor: UnownedSerialExecutor { LoadLoop.executor }

    init(_ options: Watch, target: Target, publish: Target?) {
        self.options = options
        self.target = target
        self.publish = publish
        audience = Audience(
            options.dialect == .bridge ? .bridge : .plain, library: FrameLibrary(size: options.size, isJSON: options.dialect == .bridge),
            fetchesPreviews: options.encoding == .url, readers: options.viewers, slow: options.slow)
    }

    func run() async throws -> (Report, Complaints) {
        defer { for viewer in viewers { viewer.leave() } }
        if let publish {
            try await open(target.path + (options.path ?? ""))
            return try await measure { try await self.publishFrames(to: publish) }
        }
        if let path = options.path {
            try await open(Target.path(of: path))
            return try await measure {}
        }
        let job = try await GatedJob.submit(PreviewJob.graph(frames: options.frames, rate: options.rate, size: options.size), to: target, on: loop)
        do {
            try await open(job.events)
            let result = try await measure { job.start() }
            try await job.cancel()
            return result
        } catch {
            try await job.cancel()
            throw error
        }
    }

    /// Returns when all viewers are there.
    private func open(_ path: String) async throws {
        let path = options.encoding == .url ? path + (path.contains("?") ? "&" : "?") + "previews=url" : path
        viewers = try await Viewer.open(options.viewers, slow: options.slow, audience, target, path, on: loop)
        guard await audience.opened.wait(.seconds(60), on: loop) else { throw ProtocolViolation("not all streams are open after a minute") }
    }

    private func measure(_ start: () async throws -> Void) async throws -> (Report, Complaints) {
        let cost = OwnCost.Meter(), begin = MonotonicClock.now, bytes = audience.bytes
        async let fetches: Void = fetchPreviews()
        do {
            try await start()
        } catch {
            audience.complain("\(error)")
        }
        if publish == nil, !(await audience.ended.wait(.milliseconds(Int64(options.timeout * 1000)), on: loop)) {
            audience.complain("not all streams have ended in time")
        }
        if !audience.ended.isOver { for viewer in viewers { viewer.leave() } }
        await fetches
        let seconds = Double(MonotonicClock.now - begin) / 1e9
        let sent = options.path == nil || publish != nil ? options.frames : audience.library?.frames.count ?? 0
        let (first, last) = audience.firstAndLast
        let report = Report(
            viewers: options.viewers, slowViewers: options.slow, framesSent: sent,
            deliveredShare: sent == 0 ? 1 : (Double(audience.delivered) / Double(sent * options.viewers)).rounded(to: 6),
            latency: audience.latencies.summary, firstViewer: first.summary, lastViewer: last.summary, droppedTold: audience.droppedTold,
            events: audience.events, bytes: audience.bytes - bytes, seconds: seconds.rounded(to: 3), generator: cost.read())
        return (report, audience.complaints)
    }

    /// Fetches the files that the streams tell of, for each viewer one after the other on a connection of its own. Returns when the streams have
    /// ended.
    private func fetchPreviews() async {
        guard options.encoding == .url else { return }
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<options.viewers { group.addTask { await self.fetchPreviews(of: number) } }
        }
    }

    private func fetchPreviews(of number: Int) async {
        let viewer = viewers[number], connection = HTTPConnection(target, on: loop)
        viewer.files = connection
        for await link in viewer.links {
            do { viewer.take(try await connection.send("GET", link)) } catch { viewer.fail("\(error)") }
        }
        viewer.fetchedAll()
    }

    /// Returns when all viewers have had the last one, or too late.
    private func publishFrames(to publish: Target) async throws {
        guard var picture = PreviewStamp.template(PreviewJob.smallPicture, size: options.size) else { return }
        let connection = HTTPConnection(publish, on: loop)
        defer { connection.close() }
        let begin = MonotonicClock.now, patience = TimeAmount.milliseconds(Int64(options.timeout * 1000))
        let everything = Countdown(options.frames)
        var current = everything
        audience.onComplete = { _ in
            everything.count()
            if current !== everything { current.count() }
        }
        audience.onLoss = {
            everything.giveUp()
            current.giveUp()
        }
        for number in 0..<options.frames where audience.complaints.count == 0 {
            if options.rate > 0 { try await loop.sleep(until: begin + UInt64(Double(number) / options.rate * 1e9)) }
            current = Countdown(1)
            PreviewStamp(sentAt: MonotonicClock.now, number: number).write(into: &picture)
            let answer = try await connection.send(
                "POST", publish.path, [("Content-Type", "text/plain")], body: Array(Data(picture).base64EncodedData()))
            guard 200..<300 ~= answer.status else { throw ProtocolViolation("publishing: status \(answer.status): \(answer.text)") }
            if options.rate == 0, !(await current.wait(patience, on: loop)) { break }
        }
        if audience.complaints.count == 0, !(await everything.wait(patience, on: loop)) { audience.complain("not all viewers have got everything in time") }
    }
}

extension Viewer {
    /// - Parameter slow: so many more, which are opened and then not read.
    static func open(_ count: Int, slow: Int, _ audience: Audience, _ target: Target, _ path: String, on loop: any EventLoop) async throws -> [Viewer] {
        try Descriptors.allow(count + slow)
        let request = target.request("GET", path, [("Accept", "text/event-stream")])
        var viewers: [Viewer] = []
        for number in 0..<count + slow {
            let viewer = Viewer(number, audience, request: request, stopsReading: number >= count)
            viewers.append(viewer)
            try await Connecting.connect(viewer, to: target.address, on: loop)
        }
        return viewers
    }
}
