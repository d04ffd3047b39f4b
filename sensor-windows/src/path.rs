/// Drive letters and the NT devices behind them: `C:` and `\Device\HarddiskVolume3`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices(Vec<(String, String)>);

const NETWORK: &str = r"\Device\Mup";
const SYSTEM_ROOT: &str = r"\SystemRoot";

impl Devices {
    /// Pairs of drive and device, and the Windows directory for `\SystemRoot`.
    pub(crate) fn new(drives: Vec<(String, String)>, windows_dir: String) -> Self {
        let mut devices: Vec<_> = drives
            .into_iter()
            .map(|(drive, device)| (device, drive))
            .collect();
        devices.push((NETWORK.to_owned(), r"\".to_owned()));
        devices.push((SYSTEM_ROOT.to_owned(), windows_dir));
        Self(devices)
    }

    /// The path as people write it. One on a device without a letter stays an NT path.
    pub(crate) fn dos_path(&self, nt_path: &str) -> String {
        if let Some(path) = nt_path.strip_prefix(r"\??\") {
            return path.to_owned();
        }
        let named = self.0.iter().find_map(|(device, name)| {
            let rest = strip_prefix_ignoring_case(nt_path, device)?;
            // `HarddiskVolume3` is no prefix of `HarddiskVolume30`.
            rest.starts_with('\\').then(|| format!("{name}{rest}"))
        });
        named.unwrap_or_else(|| nt_path.to_owned())
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The last part of a path of either kind.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{Devices, file_name};

    fn check(nt: &str, dos: &str) {
        let drives = [
            ("C:", r"\Device\HarddiskVolume3"),
            ("D:", r"\Device\HarddiskVolume30"),
        ];
        let drives = drives.map(|(drive, device)| (drive.to_owned(), device.to_owned()));
        assert_eq!(
            Devices::new(drives.into(), r"C:\Windows".to_owned()).dos_path(nt),
            dos
        );
    }

    #[test]
    fn nt_paths_become_dos_paths() {
        check(
            r"\Device\HarddiskVolume3\Windows\System32\cmd.exe",
            r"C:\Windows\System32\cmd.exe",
        );
        check(r"\Device\HarddiskVolume30\a b.exe", r"D:\a b.exe");
        check(r"\device\harddiskvolume3\x", r"C:\x");
        check(
            r"\SystemRoot\System32\smss.exe",
            r"C:\Windows\System32\smss.exe",
        );
        check(r"\Device\Mup\server\share\a.exe", r"\\server\share\a.exe");
        check(r"\??\C:\a.exe", r"C:\a.exe");
    }

    #[test]
    fn what_has_no_drive_stays_as_it_is() {
        check(
            r"\Device\HarddiskVolume9\a.exe",
            r"\Device\HarddiskVolume9\a.exe",
        );
        check("Registry", "Registry");
        check("", "");
        check(r"\Device\HarddiskVolumeä", r"\Device\HarddiskVolumeä");
    }

    #[test]
    fn file_name_is_the_last_part() {
        assert_eq!(file_name(r"C:\Windows\cmd.exe"), "cmd.exe");
        assert_eq!(file_name("Registry"), "Registry");
        assert_eq!(file_name(r"C:\"), "");
    }
}
