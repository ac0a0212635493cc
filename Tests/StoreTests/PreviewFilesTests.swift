import Dispatch
import Foundation
import Logging
import Synchronization
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport

@Suite(.timeLimit(.minutes(5))) struct PreviewFilesTests {
    private func files(in folder: String) -> [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted() }

    private func preview(_ number: Int, bytes: Int = 1) -> Preview {
        Preview(number: number, node: "3", contentType: "image/jpeg", bytes: [UInt8](repeating: 7, count: bytes))
    }

    @Test func theNewestWaitInTheirOrder() {
        var lane = PreviewFiles.Lane()
        let job = JobID()
        let wakes = (1...1000).map { lane.add(preview($0), job: job) }
        #expect(wakes == [true] + Array(repeating: false, count: 999), "the writer is woken once")
        let dropped = [lane.takeDropped(), lane.takeDropped()]
        #expect(lane.count == PreviewFiles.Lane.limit && dropped == [1000 - PreviewFiles.Lane.limit, 0])
        var numbers: [Int] = []
        while let next = lane.next() { numbers.append(next.preview.number) }
        #expect(numbers == Array((1001 - PreviewFiles.Lane.limit)...1000))
        let wakesAgain = lane.add(preview(1), job: job)
        #expect(wakesAgain, "it had gone to sleep")
    }

    @Test func theirBytesAreBoundedToo() {
        var lane = PreviewFiles.Lane()
        let (one, other) = (JobID(), JobID())
        _ = lane.add(preview(1, bytes: PreviewFiles.Lane.bytesLimit * 2), job: one)
        #expect(lane.count == 1)
        _ = lane.add(preview(2, bytes: PreviewFiles.Lane.bytesLimit), job: one)
        #expect(lane.count == 1)
        _ = lane.add(preview(3), job: other)
        let small = lane.next()?.preview.number
        #expect(small == 3)
        _ = lane.add(preview(4, bytes: PreviewFiles.Lane.bytesLimit), job: one)
        lane.remove(of: one)
        _ = lane.add(preview(5, bytes: PreviewFiles.Lane.bytesLimit), job: other)
        let rest = [lane.next()?.preview.number, lane.next()?.preview.number]
        #expect(rest == [5, nil])
    }

    /// Who writes does not wait, and of a job that is gone nothing is left.
    @Test func aSlowDiskHoldsUpNobody() async throws {
        try await withTemporaryFolder { folder in
            let gate = DispatchSemaphore(value: 0)
            let (begun, begins) = AsyncStream.makeStream(of: Void.self)
            let previews = try PreviewFiles(directory: folder, logger: .errorsOnly) { bytes, file in
                begins.yield()
                gate.wait()
                defer { gate.signal() }
                try PreviewFiles.store(bytes, file)
            }
            let (kept, gone) = (JobID(), JobID())
            previews.write(preview(1), job: kept)
            for await _ in begun { break }
            for number in 2...500 { previews.write(preview(number), job: kept) }
            previews.write(preview(1), job: gone)
            async let removal: Void = previews.remove(of: gone)
            gate.signal()
            await removal
            await previews.flush()
            // The one that was being written, and the newest; one of those went for the job that is gone.
            #expect(files(in: "\(folder)/\(kept)").count == PreviewFiles.Lane.limit)
            #expect(files(in: "\(folder)/\(kept)").contains("3-500.jpg") && files(in: "\(folder)/\(kept)").contains("3-1.jpg"))
            #expect(!files(in: folder).contains(gone.description))
        }
    }

    /// More come than are written, for as long as it lasts: who removes the files of a job, or waits for the rest, still has a turn.
    @Test func aLaneThatNeverEmptiesHoldsUpNobody() async throws {
        try await withTemporaryFolder { folder in
            let lane = Mutex<PreviewFiles?>(nil)
            let (job, gone) = (JobID(), JobID())
            let number = Mutex(1)
            let previews = try PreviewFiles(directory: folder, logger: .errorsOnly) { _, _ in
                let next = number.withLock { number in
                    number += 1
                    return number
                }
                // Each that is written brings another one, until the lane is taken away.
                lane.withLock { $0 }?.write(Preview(number: next, node: "3", contentType: "image/jpeg", bytes: [7]), job: job)
            }
            lane.withLock { $0 = previews }
            previews.write(preview(1), job: job)
            await previews.remove(of: gone)
            await previews.flush()
            lane.withLock { $0 = nil }
            await previews.flush()
        }
    }
}
