"""Collections of examinations with their truth, each read as its originals are laid out; `discovery` finds them.

Knows file names, label values and patients' keys of the collections. Must not know networks, resampling or training.
Each reader turns what it finds into `FileSource`s; a Case is read when it is needed.

    lits           volume-N.nii[.gz] and segmentation-N.nii[.gz], in one folder, several, or one for each kind
    image_folders  imagesTr/NAME.nii[.gz] and labelsTr/NAME.nii[.gz], with dataset.json: Medical Segmentation Decathlon
    ircadb         3Dircadb1.N/{PATIENT_DICOM,MASKS_DICOM}, folders or .zip
    chaos          N/{DICOM_anon,Ground}
    label_files    labels.nii[.gz] beside DICOM (folder or zip) or image.nii[.gz]; NAME_label.nii[.gz] beside NAME
    dicom_seg      DICOM SEG objects and the series they refer to
    phantoms       made from seeds
"""
