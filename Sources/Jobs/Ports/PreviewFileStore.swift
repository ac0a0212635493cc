/// Previews as files, for people who like them on disk.
package protocol PreviewFileStore: Sendable {
    /// Has a preview written, soon, if it is not superseded before. Any thread; never waits, neither for the disk nor for room.
    func write(_ preview: Preview, job: JobID)
    /// Removes what was written for a job, and does not write what still waits.
    func remove(of job: JobID) async
}
