import FoundationEssentials
import Glibc
import Synchronization

/// Names for saved pictures: prefix, counter, subfolder (protocol section 4.4).
///
/// ComfyUI lists the folder for each save; this reads it once per folder and prefix and counts on, so that saving does not slow down with
/// the number of files. Uploads into output or temp make it read again.
final class FileNames: Sendable {
    struct Slot {
        let kind: Folders.Kind
        let folder: String
        let subfolder: String
        /// Still with `%batch_num%`.
        let prefix: String
        let counter: Int

        /// - Parameter isOpen: without the underscore behind the number, as nodes of later versions have it.
        func name(inBatch index: Int, fileExtension: String, isOpen: Bool = false) -> String {
            let digits = String(counter + index)
            let padded = String(repeating: "0", count: max(0, 5 - digits.count)) + digits
            let name = prefix.contains("%") ? prefix.replacing("%batch_num%", with: String(index)) : prefix
            return "\(name)_\(padded)\(isOpen ? "" : "_").\(fileExtension)"
        }
    }

    private let folders: Folders
    /// The next counter by folder and prefix.
    private let counters = Mutex<[String: Int]>([:])

    init(folders: Folders) { self.folders = folders }

    /// Reserves `count` numbers and creates the folder.
    func reserve(_ count: Int, prefix: String, kind: Folders.Kind, width: Int, height: Int) throws -> Slot {
        guard prefix.utf8.count <= 4096 else { throw NodeFailure(type: "OSError", message: "[Errno 36] File name too long") }
        let expanded = prefix.contains("%") ? Self.expand(prefix, width: width, height: height) : prefix
        let base = folders.path(kind)
        let full = Folders.normalized(expanded.hasPrefix("/") ? expanded : base + "/" + expanded)
        guard full.hasPrefix(base + "/") else {
            throw NodeFailure(
                type: "Exception",
                message: "**** ERROR: Saving image outside the output folder is not allowed.\n full_output_folder: \(full)\n"
                    + "         output_dir: \(base)\n")
        }
        let parts = full.dropFirst(base.count + 1).split(separator: "/")
        let subfolder = parts.dropLast().joined(separator: "/")
        let folder = subfolder.isEmpty ? base : base + "/" + subfolder
        let name = String(parts.last ?? "")
        let counter = counters.withLock { counters in
            let key = folder + "/" + name
            let next = counters[key] ?? Self.next(in: folder, prefix: name)
            counters[key] = next + count
            return next
        }
        return Slot(kind: kind, folder: folder, subfolder: subfolder, prefix: name, counter: counter)
    }

    func forget() { counters.withLock { $0 = [:] } }

    private static func next(in folder: String, prefix: String) -> Int {
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
            try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            return 1
        }
        let highest = names.compactMap { name -> Int? in
            guard name.lowercased().hasPrefix(prefix.lowercased() + "_") else { return nil }
            return Int(name.dropFirst(prefix.count + 1).prefix { $0 != "_" && $0 != "." }) ?? 0
        }.max()
        return (highest ?? 0) + 1
    }

    private static func expand(_ prefix: String, width: Int, height: Int) -> String {
        let now = WallClock.calendar()
        let values = [
            ("%width%", String(width)), ("%height%", String(height)), ("%year%", String(now.tm_year + 1900)),
            ("%month%", WallClock.two(now.tm_mon + 1)), ("%day%", WallClock.two(now.tm_mday)), ("%hour%", WallClock.two(now.tm_hour)),
            ("%minute%", WallClock.two(now.tm_min)), ("%second%", WallClock.two(now.tm_sec)),
        ]
        return values.reduce(prefix) { $0.replacing($1.0, with: $1.1) }
    }
}
